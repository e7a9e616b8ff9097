"""Options of the local API (section ``api``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field, field_validator, model_validator

from edge_agent.api.address import Address, TcpAddress, parse_address
from edge_agent.options import ByteSize, Duration, Options, Secret

_TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class Scope(StrEnum):
    """What a token may open."""

    INCIDENTS = "incidents"
    MODEL = "model"
    CONFIG = "config"
    OTA_CHECK = "ota:check"
    OTA_ACTIVATE = "ota:activate"
    OTA_ROLLBACK = "ota:rollback"
    OTA_SIDELOAD = "ota:sideload"


class TokenOptions(Options):
    """A token that opens some things only."""

    token: Secret = Field(description="16 characters or more.", examples=["${file:/etc/edge-agent/ci.token}"])
    scopes: tuple[Scope, ...] = Field(
        min_length=1,
        description="What it opens: `incidents` (feedback, acknowledgement, orders), `model` (swap, rollback), "
        "`config` (reload), `ota:check` (look for updates), `ota:activate` (use what is staged now), `ota:rollback`, "
        "`ota:sideload` (update from a folder on the gateway).",
        examples=[["ota:check"]],
    )

    @field_validator("token")
    @classmethod
    def _token_is_strong(cls, value: Secret) -> Secret:
        return _strong(value)


class ApiOptions(Options):
    """The HTTP server for health checks, metrics, the status page and the `edge-agent` commands."""

    enabled: bool = Field(default=True, description="Whether to listen at all.")
    listen: str = Field(
        default="127.0.0.1:8470",
        description="IP address and port (`127.0.0.1:8470`, `[::1]:8470`) or a unix socket "
        "(`unix:/run/edge-agent/api.sock`, mode 0660). Port 0 takes any free port.",
    )
    allow_remote: bool = Field(
        default=False,
        description="Must be true to listen on an address that other machines can reach. They can then read sensors "
        "and incidents without a password; put a proxy with TLS and a login in front, or a firewall.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names by which clients may call this server, besides `localhost` and IP addresses. Others are "
        "refused, because a web page could otherwise reach the API under its own name (DNS rebinding).",
    )
    token: Secret | None = Field(
        default=None,
        description="Token (16 characters or more) for whatever changes something: model swap, rollback, reload. "
        "Without it only those who can read the token file in the agent's data directory can.",
    )
    tokens: Mapping[str, TokenOptions] = Field(
        default={},
        description="Further tokens by name, each for some things only. The name is what the log and the audit call "
        "whoever used it.",
        examples=[{"pipeline": {"token": "${file:/etc/edge-agent/ci.token}", "scopes": ["ota:check"]}}],
    )
    metrics: bool = Field(default=True, description="Whether `/metrics` answers Prometheus.")
    max_bundle: ByteSize = Field(
        default=64_000_000, ge=100_000, le=2_000_000_000, description="Largest model bundle that may be uploaded."
    )
    max_connections: int = Field(
        default=64, ge=4, le=10_000, description="Connections at the same time; more are answered 503."
    )
    max_streams: int = Field(
        default=16, ge=1, le=1000, description="Clients of the live event stream at the same time."
    )
    timeout: Duration = Field(
        default=10.0, ge=0.1, le=300, description="Time for a client to send a request, and to take the answer."
    )
    change_timeout: Duration = Field(
        default=120.0, ge=1, le=3600, description="Time for a model swap, rollback or reload, upload included."
    )

    @property
    def address(self) -> Address:
        """``listen``, parsed."""
        return parse_address(self.listen)

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, value: str) -> str:
        parse_address(value)
        return value

    @field_validator("token")
    @classmethod
    def _token_is_strong(cls, value: Secret | None) -> Secret | None:
        return value if value is None else _strong(value)

    @field_validator("tokens")
    @classmethod
    def _tokens_have_names(cls, value: Mapping[str, TokenOptions]) -> Mapping[str, TokenOptions]:
        for name in value:
            if _TOKEN_NAME.fullmatch(name) is None:
                raise ValueError(f"got the name {name!r}, expected 1 to 64 letters, digits, `_`, `.` or `-`")
        return value

    @model_validator(mode="after")
    def _tokens_differ(self) -> ApiOptions:
        given = {"token": self.token, **{f"tokens.{name}.token": one.token for name, one in self.tokens.items()}}
        first: dict[Secret, str] = {}
        for where, token in given.items():
            if token is not None and first.setdefault(token, where) != where:
                raise ValueError(f"{where}: is the same as {first[token]}; every token is one of its own")
        return self

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if _HOST_NAME.fullmatch(name) is None:
                raise ValueError(f"got {name!r}, expected a host name without port, such as gateway.plant.example")
        return value

    @model_validator(mode="after")
    def _remote_is_meant(self) -> ApiOptions:
        address = self.address
        if isinstance(address, TcpAddress) and not address.is_loopback and not self.allow_remote:
            raise ValueError(
                f"listen: got {self.listen!r}, which other machines can reach; listen on 127.0.0.1, "
                "or set `allow_remote: true` if that is meant"
            )
        return self


def _strong(token: Secret) -> Secret:
    if not is_token(token.reveal()):
        raise ValueError(
            "expected at least 16 printable ASCII characters without spaces; `openssl rand -hex 32` makes one"
        )
    return token


def is_token(text: str) -> bool:
    """True for what may be a token: it has to fit into a header and must not be guessed in a lifetime."""
    return 16 <= len(text) <= 512 and text.isascii() and text.isprintable() and " " not in text
