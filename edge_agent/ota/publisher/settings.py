"""Settings of a publisher (``repo.yaml``): rings, how long signatures hold, how gateways are reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from edge_agent.errors import ConfigError, OtaError
from edge_agent.nearest import nearest
from edge_agent.options import Duration, Options
from edge_agent.ota.ring import Name, first_mistake

SETTINGS = "repo.yaml"
DAY_S = 86_400.0


class Expiry(Options):
    """How long signatures of each role hold. Expired metadata only stops new installs; nothing stops running."""

    root: Duration = Field(default=365 * DAY_S, ge=60, description="Root metadata: who may sign what.")
    targets: Duration = Field(default=90 * DAY_S, ge=60, description="Delegations to the other roles.")
    models: Duration = Field(default=90 * DAY_S, ge=60, description="Lists of models, one of each family.")
    config: Duration = Field(default=30 * DAY_S, ge=60, description="List of configurations.")
    rings: Duration = Field(default=7 * DAY_S, ge=60, description="List of ring files.")
    snapshot: Duration = Field(default=7 * DAY_S, ge=60, description="Snapshot metadata: what belongs together.")
    timestamp: Duration = Field(default=DAY_S, ge=60, description="Timestamp metadata: nothing newer exists.")

    def seconds(self, role: str) -> float:
        """How long signatures of ``role`` (``models-pump`` as ``models``) hold."""
        held: float = getattr(self, role.partition("-")[0])
        return held


class RingOptions(Options):
    """One ring: how large it is, and when a release has proved itself in it."""

    gateways: int = Field(
        default=0,
        ge=0,
        description="How many gateways are in it; 0: as many as have reported, and then nobody is missed.",
    )
    soak: Duration = Field(
        default=3_600.0, ge=0, description="How long a release runs in all of it before it goes on to the next ring."
    )
    success: float = Field(
        default=0.95, gt=0, le=1, description="Least share of those that said how it ended in which it was committed."
    )
    failure_share: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Share of gateways that may fail: two failures or more halt the release if they show, with 95 % "
        "confidence, that it is larger.",
    )
    silence: float = Field(
        default=0.1, ge=0, lt=1, description="Largest share that may have said nothing; more blocks the promotion."
    )
    wait: Duration = Field(
        default=86_400.0, ge=0, description="How long to wait for gateways that are silent before saying so."
    )


class RepoOptions(Options):
    """Settings of a publisher."""

    fleet: Name = Field(default="default", description="Name of the fleet, in topics and reports.")
    expiry: Expiry = Expiry()
    rings: Mapping[Name, RingOptions] = Field(
        default={"canary": RingOptions(), "early": RingOptions(), "stable": RingOptions()},
        min_length=1,
        max_length=16,
        description="Rings in the order in which a release goes through them.",
    )
    look_within: Duration = Field(
        default=20.0,
        ge=0,
        le=3_600,
        description="Over how long gateways look when they are told of news; longer spares the network. A halt or a "
        "rollback is looked for within 20 s at most.",
    )
    counter_from: int = Field(
        default=1,
        ge=1,
        le=2**53,
        description="Smallest counter of new ring files: after a repository was lost, or keys stolen, the seconds "
        "since 1970 (`date +%s`), which no gateway has seen yet.",
    )
    uplinks: Mapping[Name, Mapping[str, Any]] = Field(
        default={}, description="How gateways are told of news, and their reports are read: as on a gateway."
    )

    @model_validator(mode="after")
    def _rings_are_told_apart(self) -> Self:
        if len({name.lower() for name in self.rings}) != len(self.rings):
            raise ValueError("rings: expected names that differ in more than capital letters")
        return self

    def following(self, ring: str) -> str | None:
        """The ring after ``ring``, None for the last."""
        names = list(self.rings)
        after = names.index(ring) + 1
        return names[after] if after < len(names) else None

    def check_rings(self, rings: Iterable[str], where: Path) -> None:
        """:raises OtaError: reason ``ring``, one of them is not listed in the settings at ``where``."""
        known = list(self.rings)
        for ring in rings:
            if ring not in known:
                raise OtaError(
                    "ring",
                    f"got ring {ring!r}, expected one of {', '.join(known)}{nearest(ring, known)};"
                    f" rings are listed in {where}",
                )


def read_settings(path: Path) -> RepoOptions:
    """Read ``repo.yaml``. :raises ConfigError: it cannot be read; the field is named."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: is missing; make a repository with `edge-agent ota repo init`") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        return RepoOptions.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_mistake(error)}") from error
