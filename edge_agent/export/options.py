"""Options of the OTLP export (section ``telemetry``)."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from edge_agent.options import Duration, Options, Secret


class Signal(StrEnum):
    """What can be exported."""

    METRICS = "metrics"
    TRACES = "traces"
    LOGS = "logs"


class TelemetryOptions(Options):
    """Export of the agent's own metrics, traces and logs to an OpenTelemetry collector, by OTLP over HTTP."""

    endpoint: str | None = Field(
        default=None,
        description="Base address of the collector, such as `http://collector:4318`; `/v1/metrics`, `/v1/traces` and "
        "`/v1/logs` are added to it. Not given: nothing is exported and nothing is loaded.",
    )
    headers: dict[str, Secret] = Field(
        default={}, description="HTTP headers to send, such as `{Authorization: ${env:OTLP_AUTH}}`."
    )
    signals: tuple[Signal, ...] = Field(default=tuple(Signal), description="What to export.")
    interval: Duration = Field(
        default=15.0,
        ge=0.1,
        le=3600,
        description="Time between two exports: 100ms to 1h. Also the longest wait of a span or a log record.",
    )
    trace_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Part of the ticks that is traced: 0.01 is each hundredth, 1 every one."
    )
    resource: dict[str, str] = Field(
        default={}, description="Attributes of this gateway, such as `{deployment.environment.name: plant-7}`."
    )
    timeout: Duration = Field(default=10.0, ge=0.1, le=300, description="Time the collector has to answer.")
    capacity: int = Field(
        default=2048,
        ge=16,
        le=100_000,
        description="Spans and log records (each) kept while the collector is away; beyond it the oldest go (counted).",
    )
    ca_file: str | None = Field(
        default=None, description="Certificates (PEM) to trust instead of the system's, for an `https` collector."
    )

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            complete = False
        if not complete or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(
                f"got {value!r}, expected the address of an OTLP/HTTP collector such as http://collector:4318 "
                "(passwords belong into `headers`)"
            )
        return value.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _headers_are_tokens(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, secret in value.items():
            # RFC 9110, section 5.1 and 5.5: anything else could end the header and begin another one.
            if not name or not name.isascii() or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name):
                raise ValueError(f"got {name!r}, expected the name of an HTTP header")
            if not secret.reveal().isprintable() or not secret.reveal().isascii():
                raise ValueError(f"value of {name!r}: expected printable ASCII text on one line")
        return value
