"""CoAP (RFC 7252): devices POST or PUT readings to us, or we observe or poll their resources."""

from __future__ import annotations

from edge_adapters.coap.options import CoapOptions
from edge_agent.contract import AdapterContext, Source, SourceAdapter


def _build(options: CoapOptions, context: AdapterContext) -> Source:
    from edge_adapters.coap.source import CoapSource

    return CoapSource(options, context)


SOURCE = SourceAdapter(
    name="coap",
    summary="CoAP server that devices POST or PUT to, and client that observes or polls devices; SenML, JSON, text.",
    options=CoapOptions,
    build=_build,
    extra="coap",
)
