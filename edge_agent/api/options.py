"""Options of the local API (section ``api``)."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from edge_agent.api.address import Address, TcpAddress, parse_address
from edge_agent.options import ByteSize, Duration, Options, Secret

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


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
        if value is not None and not is_token(value.reveal()):
            raise ValueError(
                "expected at least 16 printable ASCII characters without spaces; `openssl rand -hex 32` makes one"
            )
        return value

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


def is_token(text: str) -> bool:
    """True for what may be a token: it has to fit into a header and must not be guessed in a lifetime."""
    return 16 <= len(text) <= 512 and text.isascii() and text.isprintable() and " " not in text
