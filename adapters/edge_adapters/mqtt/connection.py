"""Options of a connection to a broker, shared by source and sink."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from edge_agent.options import Duration, Options, Secret
from edge_agent.tls import TlsOptions

PLAIN_PORT, TLS_PORT = 1883, 8883  # registered with IANA


class ProtocolVersion(StrEnum):
    """MQTT versions spoken."""

    V311 = "3.1.1"
    V5 = "5"


class ConnectionOptions(Options):
    """Where the broker is and how to introduce ourselves."""

    host: str = Field(default="localhost", min_length=1, description="Name or address of the broker.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port. Default: 1883, with `tls` 8883.")
    tls: TlsOptions | None = Field(default=None, description="TLS; `tls: {}` takes the system's authorities.")
    username: str | None = Field(default=None, description="User name, where the broker asks for one.")
    password: Secret | None = Field(
        default=None, description="Password, best as a reference: `${env:NAME}` or `${file:/path}`."
    )
    version: ProtocolVersion = Field(default=ProtocolVersion.V311, description="MQTT version to speak.")
    client_id: str | None = Field(
        default=None,
        max_length=256,
        description="Name under which the broker knows this client; must be unique. Default: the broker makes one up "
        "(MQTT 3.1.1 section 3.1.3.1; a broker may refuse to).",
    )
    keepalive: Duration = Field(
        default=30.0,
        ge=1,
        le=65535,
        description="A dead connection is noticed within this time, also when nobody says it is dead.",
    )
    connect_timeout: Duration = Field(
        default=10.0, gt=0, le=600, description="Longest time for name look-up, TCP, TLS and MQTT greeting together."
    )

    @property
    def address(self) -> str:
        """What to call the broker in messages; no secrets."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.effective_port}"

    @property
    def effective_port(self) -> int:
        """The port given, or the registered one."""
        return self.port or (PLAIN_PORT if self.tls is None else TLS_PORT)

    @model_validator(mode="after")
    def _password_has_a_user(self) -> ConnectionOptions:
        # MQTT 3.1.1 section 3.1.2.9: without a user name there must be no password.
        if self.password is not None and self.username is None:
            raise ValueError("password: needs `username` too")
        return self
