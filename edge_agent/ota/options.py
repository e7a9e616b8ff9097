"""Options of updates over the air (section ``ota``)."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from edge_agent.nearest import nearest
from edge_agent.options import ByteSize, Duration, Options
from edge_agent.ota.ring import NAME
from edge_agent.tls import TlsOptions

REMOTE_SECTIONS = ("sensors", "graph", "decision", "rules", "patterns", "drift", "companions")
"""Sections that a fleet's configuration may have by default: nothing that opens a door or knows a secret."""
REMOTE_SECTIONS_ON_REQUEST = ("sources", "sinks")
"""Those that it may have as well where the operator says so. No other section is ever taken from a release."""


def gateway_name(options: OtaOptions, agent_name: str) -> str:
    """Name of this gateway in topics and reports: its own, else that of the agent.

    :raises ValueError: the agent's name cannot be one.
    """
    name = options.gateway or agent_name
    if NAME.fullmatch(name) is None:
        raise ValueError(
            f"is missing, and agent.name ({name!r}) cannot stand for it: expected 1 to 64 letters, digits, "
            "`_`, `.` or `-`"
        )
    return name


class OtaOptions(Options):
    """Updates of models and configuration over the air. Nothing is done without `repository`."""

    repository: str | None = Field(
        default=None,
        description="Address of the repository, with `metadata/` and `targets/` in it.",
        examples=["https://updates.example.com/fleet"],
    )
    root: Path | None = Field(
        default=None,
        description="The repository's `root.json`, as it was when this gateway was set up: all trust starts there.",
    )
    fleet: str = Field(default="default", description="Name of the fleet, in topics and reports.")
    ring: str = Field(default="stable", description="Ring of this gateway: which releases it takes, and when.")
    gateway: str | None = Field(
        default=None, description="Name of this gateway in reports, unique in its fleet. Default: that of `agent.name`."
    )
    hardware: tuple[str, ...] = Field(
        default=(),
        max_length=32,
        description="Kinds of gateway this one is, besides its processor (`aarch64`, `x86_64`).",
        examples=[["rpi4"]],
    )
    tls: TlsOptions | None = Field(
        default=None, description="Authorities to trust and client certificate for `https`; `{}` takes the system's."
    )
    poll_every: Duration = Field(
        default=900.0, ge=10, le=7 * 86_400, description="How often to look for news unasked; a fifth of it at random."
    )
    check_not_within: Duration = Field(
        default=10.0, ge=1, le=3600, description="Least time between two looks, however often one is asked for."
    )
    timeout: Duration = Field(default=30.0, ge=1, le=600, description="Longest time for one look.")
    slowest: ByteSize = Field(
        default=500, ge=1, description="Bytes a second, averaged over a minute, below which a download is given up."
    )
    shadow: bool = Field(
        default=True, description="Whether candidates may run in shadow; it needs memory for two models."
    )
    remote_config: tuple[str, ...] = Field(
        default=REMOTE_SECTIONS,
        description="Sections of the configuration that a release may change; `[]`: none. `sources` and `sinks` may be "
        "added: of those in this file, what all of them have (`rename`, `severity`), never where they connect to.",
    )

    @field_validator("fleet", "ring", "gateway")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and NAME.fullmatch(value) is None:
            raise ValueError(f"got {value!r}, expected 1 to 64 letters, digits, `_`, `.` or `-`")
        return value

    @field_validator("hardware")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            cls._is_a_name(name)
        return value

    @field_validator("remote_config")
    @classmethod
    def _may_be_remote(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = (*REMOTE_SECTIONS, *REMOTE_SECTIONS_ON_REQUEST)
        for name in value:
            if name not in known:
                raise ValueError(f"got {name!r}, expected some of {', '.join(known)}{nearest(name, known)}")
        return value

    @field_validator("repository")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http", "file") or not (parts.netloc or parts.scheme == "file"):
            raise ValueError(f"got {value!r}, expected an address such as https://updates.example.com/fleet")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("expected an address without user, query and fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _has_a_root(self) -> Self:
        if self.repository is not None and self.root is None:
            raise ValueError("root: is missing, expected the path of the repository's root.json; it comes with it")
        return self
