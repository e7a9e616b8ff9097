"""Acme scales: one line of text for each weighing. Loading this module loads no client library."""

from __future__ import annotations

from acme_edge.options import AcmeOptions
from edge_agent.contract import AdapterContext, Source, SourceAdapter


def _build(options: AcmeOptions, context: AdapterContext) -> Source:
    from acme_edge.source import AcmeSource  # only now, when one is configured

    return AcmeSource(options, context)


SOURCE = SourceAdapter(
    name="acme",
    summary="Reads Acme scales: lines such as `hopper1 21.5` over TCP.",
    options=AcmeOptions,
    build=_build,
)
