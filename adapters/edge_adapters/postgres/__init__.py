"""PostgreSQL and TimescaleDB: readings, scores, incidents and status events in tables."""

from __future__ import annotations

from edge_adapters.postgres.options import PostgresOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: PostgresOptions, context: AdapterContext) -> Sink:
    from edge_adapters.postgres.sink import PostgresSink

    return PostgresSink(options, context)


SINK = SinkAdapter(
    name="postgres",
    summary="Readings, scores, incidents and status events into tables of PostgreSQL or TimescaleDB, each once.",
    options=PostgresOptions,
    build=_build,
    extra="postgres",
)
