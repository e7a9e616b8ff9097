"""Syslog (RFC 5424): events to a SIEM over UDP, TCP or TLS, as text, CEF or OCSF."""

from __future__ import annotations

from edge_adapters.syslog.options import SyslogOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: SyslogOptions, context: AdapterContext) -> Sink:
    from edge_adapters.syslog.sink import syslog_sink

    return syslog_sink(options, context)


SINK = SinkAdapter(
    name="syslog",
    summary="Events to a SIEM by syslog (RFC 5424) over UDP, TCP or TLS, as text, CEF or OCSF JSON.",
    options=SyslogOptions,
    build=_build,
)
