"""Prometheus Alertmanager: incidents as alerts that fire as long as the incident is open."""

from __future__ import annotations

from edge_adapters.alertmanager.options import AlertmanagerOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: AlertmanagerOptions, context: AdapterContext) -> Sink:
    from edge_adapters.alertmanager.sink import AlertmanagerSink

    return AlertmanagerSink(options, context)


SINK = SinkAdapter(
    name="alertmanager",
    summary="Incidents as alerts of a Prometheus Alertmanager (API v2), repeated while they are open.",
    options=AlertmanagerOptions,
    build=_build,
)
