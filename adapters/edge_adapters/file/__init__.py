"""JSON lines: events appended to a file that rotates, or written to standard output."""

from __future__ import annotations

from edge_adapters.file.options import FileOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: FileOptions, context: AdapterContext) -> Sink:
    from edge_adapters.file.sink import FileSink

    return FileSink(options, context)


SINK = SinkAdapter(
    name="file",
    summary="Events as JSON lines in a file that rotates by size, or on standard output.",
    options=FileOptions,
    build=_build,
)
