"""Options of the syslog sink."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import Field, field_validator, model_validator

from edge_agent.contract import SinkOptions
from edge_agent.options import ByteSize, Duration
from edge_agent.tls import TlsOptions
from edge_agent.verdict import EventKind

_MOST_UDP: Final = 65_507  # of an IPv4 datagram: 65,535 less the headers


class Transport(StrEnum):
    """How messages travel."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class Framing(StrEnum):
    """How a message is told from the next one on a stream (RFC 6587, 3.4)."""

    OCTET_COUNTING = "octet_counting"
    NEWLINE = "newline"


class Format(StrEnum):
    """What the message says, and for whom."""

    TEXT = "text"
    CEF = "cef"
    OCSF = "ocsf"


class Facility(StrEnum):
    """Facilities of RFC 5424, table 1, under their usual names; their order is their number."""

    KERN = "kern"
    USER = "user"
    MAIL = "mail"
    DAEMON = "daemon"
    AUTH = "auth"
    SYSLOG = "syslog"
    LPR = "lpr"
    NEWS = "news"
    UUCP = "uucp"
    CRON = "cron"
    AUTHPRIV = "authpriv"
    FTP = "ftp"
    NTP = "ntp"
    AUDIT = "audit"
    ALERT = "alert"
    CLOCK = "clock"
    LOCAL0 = "local0"
    LOCAL1 = "local1"
    LOCAL2 = "local2"
    LOCAL3 = "local3"
    LOCAL4 = "local4"
    LOCAL5 = "local5"
    LOCAL6 = "local6"
    LOCAL7 = "local7"

    @property
    def number(self) -> int:
        """Numerical code, 0 to 23."""
        return list(Facility).index(self)


PORTS: Final = {Transport.UDP: 514, Transport.TCP: 514, Transport.TLS: 6514}
_LENGTHS: Final = {Transport.UDP: 2048, Transport.TCP: 8192, Transport.TLS: 8192}


class SyslogOptions(SinkOptions):
    """Events to a syslog receiver."""

    host: str = Field(min_length=1, description="Name or address of the receiver.")
    port: int | None = Field(default=None, ge=1, le=65_535, description="Port. Default: 514, with `tls` 6514.")
    transport: Transport = Field(
        default=Transport.TCP,
        description="`udp` (RFC 5426; what is lost on the way is lost), `tcp` (RFC 6587) or `tls` (RFC 5425).",
    )
    framing: Framing = Field(
        default=Framing.OCTET_COUNTING,
        description="How messages are told apart over TCP and TLS: `octet_counting` (a length before each), or "
        "`newline` for receivers that know nothing else.",
    )
    format: Format = Field(
        default=Format.TEXT,
        description="Body of a message: a `text` for people, `cef` (ArcSight Common Event Format 0) or `ocsf` (JSON, "
        "OCSF 1.5.0, class Detection Finding).",
    )
    facility: Facility = Field(default=Facility.LOCAL0, description="Facility of every message.")
    app_name: str = Field(
        default="edge-agent",
        pattern=r"^[!-~]{1,48}$",
        description="APP-NAME of every message: at most 48 visible ASCII characters.",
    )
    hostname: str | None = Field(
        default=None,
        pattern=r"^[!-~]{1,255}$",
        description="HOSTNAME of every message. Default: the name of the agent.",
    )
    structured_data: bool = Field(
        default=True,
        description="Put id, state, severity, sensors and techniques into the message as structured data too.",
    )
    enterprise_number: int = Field(
        default=32_473,
        ge=1,
        le=2**32 - 1,
        description="Private enterprise number in the name of the structured data (`edge@NUMBER`). Default: the one "
        "that is reserved for examples (RFC 5612).",
    )
    byte_order_mark: bool = Field(
        default=False,
        description="Begin the body with the byte order mark that RFC 5424 asks for before UTF-8; many SIEMs stumble "
        "over it.",
    )
    max_length: ByteSize | None = Field(
        default=None,
        ge=480,
        le=1_000_000,
        description="Longest message; a longer one loses its details, then its end (counted). Default: 2 kB over UDP, "
        "8 kB over TCP and TLS, which RFC 5426 and RFC 5425 expect every receiver to take.",
    )
    timeout: Duration = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Longest time to connect, and for the receiver's machine to acknowledge what it was sent.",
    )
    tls: TlsOptions = Field(default=TlsOptions(), description="TLS, with `transport: tls`.")

    @property
    def effective_port(self) -> int:
        """The port given, or the usual one."""
        return self.port or PORTS[self.transport]

    @property
    def effective_length(self) -> int:
        """Longest message in bytes."""
        return self.max_length or _LENGTHS[self.transport]

    @property
    def address(self) -> str:
        """What to call the receiver in messages."""
        return f"syslog {self.transport.value}://{self.host}:{self.effective_port}"

    @field_validator("events")
    @classmethod
    def _events_are_for_people(cls, events: tuple[EventKind, ...]) -> tuple[EventKind, ...]:
        unfit = [kind.value for kind in events if kind not in (EventKind.INCIDENT, EventKind.STATUS)]
        if unfit:
            raise ValueError(
                f"got {', '.join(unfit)}, expected incident and status; for numbers take influxdb or postgres"
            )
        return events

    @model_validator(mode="after")
    def _parts_fit_the_transport(self) -> SyslogOptions:
        if self.transport is not Transport.TLS and self.tls != TlsOptions():
            raise ValueError(f"tls: has no meaning with `transport: {self.transport.value}`; set `transport: tls`")
        if self.transport is Transport.UDP and self.framing is not Framing.OCTET_COUNTING:
            raise ValueError("framing: has no meaning with `transport: udp`, where a datagram is a message")
        if self.transport is Transport.UDP and self.effective_length > _MOST_UDP:
            raise ValueError(
                f"max_length: got {self.max_length}, expected at most {_MOST_UDP} bytes with `transport: udp`"
            )
        return self
