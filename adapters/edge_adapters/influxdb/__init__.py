"""InfluxDB and what speaks its line protocol: readings, scores and incidents as time series."""

from __future__ import annotations

from edge_adapters.influxdb.options import InfluxOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: InfluxOptions, context: AdapterContext) -> Sink:
    from edge_adapters.influxdb.sink import InfluxSink

    return InfluxSink(options, context)


SINK = SinkAdapter(
    name="influxdb",
    summary="Readings, scores and incidents to InfluxDB 1, 2, 3 or VictoriaMetrics by HTTP (line protocol).",
    options=InfluxOptions,
    build=_build,
)
