"""The ring file: what the gateways of one ring are to run. Pure: bytes in, :class:`Ring` or error out.

It is a TUF target, ``rings/<ring>.json``: whoever has read it here knows already that its signers meant it. Publisher
and gateway share this module, so that nothing is published that a gateway would refuse.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from edge_agent.errors import OtaError
from edge_agent.options import Options

SCHEMA = 1
MAX_RING_BYTES = 65_536
MAX_DENIED = 256
MAX_MODEL_BYTES = 224 << 20
MAX_CONFIG_BYTES = 1_000_000
FACTORY = "factory"
"""As ``model``: the universal model that every installation has inside."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of fleets, rings, gateways, releases, families and keys: they become parts of topics and file names."""
Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
TargetPath = Annotated[
    str,
    StringConstraints(pattern=r"^(models/[A-Za-z0-9][A-Za-z0-9._-]{0,63}|config)/[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$"),
]
_AGENT_VERSION = r"^[0-9]+(\.[0-9]+){0,2}$"


class Activation(StrEnum):
    """When a gateway that holds the release begins to use it: not yet, at once, or from a moment on."""

    STAGE = "stage"
    NOW = "now"
    AT = "at"


class Target(Options):
    """A file of the repository: its TUF target path, and what is already said of it here."""

    path: TargetPath
    sha256: Sha256 = Field(description="Of the file.")
    bytes: int = Field(ge=1, le=MAX_MODEL_BYTES)


class ModelTarget(Target):
    """A model bundle as a plain tar."""

    bundle: Sha256 = Field(description="Identity of the bundle: sha256 of its `manifest.json`.")


class ConfigTarget(Target):
    """Sections of the configuration as YAML."""

    bytes: int = Field(ge=1, le=MAX_CONFIG_BYTES)


class Activate(Options):
    """When to change over. ``spread_s``: each gateway waits a random part of it first."""

    mode: Activation = Activation.STAGE
    at: AwareDatetime | None = None
    spread_s: float = Field(default=20.0, ge=0, le=86_400)

    @model_validator(mode="after")
    def _has_its_moment(self) -> Activate:
        if (self.mode is Activation.AT) != (self.at is not None):
            raise ValueError("expected `at` (RFC 3339, with its zone) with mode `at`, and with no other mode")
        return self


class Shadow(Options):
    """How long the candidate scores beside the model in use before it may answer; 0 seconds: not at all."""

    seconds: float = Field(default=600.0, ge=0, le=604_800)
    ticks: int = Field(default=200, ge=0, le=1_000_000)


class Trial(Options):
    """How long the new model answers before it stays: both, ``seconds`` (boot time) and ``ticks``."""

    seconds: float = Field(default=600.0, ge=0, le=604_800)
    ticks: int = Field(default=500, ge=0, le=1_000_000)
    starts: int = Field(default=2, ge=0, le=100, description="Most starts of the process while on trial.")
    score_shift: float = Field(default=0.2, gt=0, le=1, description="Largest Kolmogorov-Smirnov distance of scores.")
    alarm_factor: float = Field(default=5.0, ge=1, le=1_000)
    alarm_extra: float = Field(default=3.0, ge=0, le=1_000_000)


class Limits(Options):
    """What the model may cost on these gateways; absent: what its bundle says."""

    p99_ms: float | None = Field(default=None, gt=0)
    rss_mb: float | None = Field(default=None, gt=0)


class Ring(Options):
    """What one ring runs.

    ``counter`` grows with every ring file of a repository, whatever the ring; a gateway never goes below the largest
    one that it has seen of its ring. So a fleet is taken back by a *new* ring file that names the old model.
    ``model``, ``config``: None leaves what is in use. ``denied``: bundles never to be used again, wherever they are.
    ``halt``: nobody begins with this release any more, and whoever has it in shadow or on trial gives it up.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    ring: Name
    release: Name
    counter: int = Field(ge=1, le=2**53)
    issued: AwareDatetime
    model: ModelTarget | Literal["factory"] | None = None
    config: ConfigTarget | None = None
    image: Annotated[str, StringConstraints(pattern=r"^[^\s@]{1,255}@sha256:[0-9a-f]{64}$")] | None = Field(
        default=None, description="Container image with its digest, for whatever updates the container."
    )
    hardware: tuple[Name, ...] = Field(default=(), max_length=64, description="Kinds of gateway; empty: all.")
    min_agent: Annotated[str, StringConstraints(pattern=_AGENT_VERSION)] | None = None
    limits: Limits = Limits()
    activate: Activate = Activate()
    shadow: Shadow = Shadow()
    trial: Trial = Trial()
    denied: tuple[Sha256, ...] = Field(default=(), max_length=MAX_DENIED)
    halt: bool = False

    def to_json(self) -> bytes:
        """UTF-8 JSON; :func:`parse_ring` gives an equal ring back."""
        return self.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def ring_path(ring: str) -> str:
    """The TUF target path of a ring's file."""
    return f"rings/{ring}.json"


def parse_ring(raw: bytes, ring: str) -> Ring:
    """Read the file of ``ring``.

    :raises OtaError: it is none, of a newer schema, or of another ring. The field, what was found and what was
        expected are named.
    """
    where = ring_path(ring)
    if len(raw) > MAX_RING_BYTES:
        raise OtaError("ring_file", f"{where}: got {len(raw)} bytes, expected at most {MAX_RING_BYTES}")
    newer = re.search(rb'"schema"\s*:\s*([0-9]{1,9})', raw[:4096])
    if newer is not None and int(newer[1]) > SCHEMA:
        raise OtaError(
            "ring_file", f"{where}: schema: got {int(newer[1])}, expected {SCHEMA}; a newer agent is needed to read it"
        )
    try:
        found = Ring.model_validate_json(raw)
    except ValidationError as error:
        raise OtaError("ring_file", f"{where}: {first_mistake(error)}") from error
    if found.ring != ring:
        raise OtaError("ring_file", f"{where}: ring: got {found.ring!r}, expected {ring!r}")
    return found


def first_mistake(error: ValidationError) -> str:
    """The first of pydantic's findings as one sentence with the place, and how many more there are."""
    first, *others = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    found = "" if first["type"] in ("missing", "json_invalid") else f", got {str(first['input'])[:80]!r}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}: {first['msg']}{found}{more}"
