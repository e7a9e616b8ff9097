"""Options of the PostgreSQL sink."""

from __future__ import annotations

from pydantic import Field, field_validator

from edge_agent.contract import SinkOptions
from edge_agent.options import Duration, Secret
from edge_agent.tls import TlsOptions
from edge_agent.verdict import EventKind


class PostgresOptions(SinkOptions):
    """Tables in PostgreSQL or TimescaleDB."""

    events: tuple[EventKind, ...] = Field(
        default=(EventKind.INCIDENT, EventKind.STATUS, EventKind.SCORES),
        description="Kinds of event to deliver to this sink.",
    )
    every: Duration | None = Field(
        default=10.0,
        gt=0,
        description="How often scores and readings are delivered, if `events` names them; those in between are not "
        "sent. `null`: at each tick.",
    )
    host: str = Field(
        default="localhost", min_length=1, description="Name or address of the server, or the folder of its socket."
    )
    port: int = Field(default=5432, ge=1, le=65_535, description="Port.")
    database: str = Field(min_length=1, description="Database; it must exist.")
    user: str = Field(min_length=1, description="User.")
    password: Secret | None = Field(
        default=None, description="Password of `user`, best as a reference: `${env:NAME}` or `${file:/path}`."
    )
    namespace: str = Field(
        default="edge_agent",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="Schema that the tables are in; it is made if it does not exist, and may be used by many gateways.",
    )
    timeout: Duration = Field(
        default=10.0, gt=0, le=600, description="Longest time to connect, and for the answer to one statement."
    )
    tls: TlsOptions | None = Field(default=None, description="TLS; `tls: {}` takes the system's authorities.")

    @property
    def address(self) -> str:
        """What to call the database in messages."""
        return f"postgresql://{self.host}:{self.port}/{self.database}"

    @field_validator("tls")
    @classmethod
    def _name_is_the_host(cls, tls: TlsOptions | None) -> TlsOptions | None:
        if tls is not None and tls.server_name is not None:
            raise ValueError("server_name: cannot differ from `host` here; write the name of the certificate as `host`")
        return tls
