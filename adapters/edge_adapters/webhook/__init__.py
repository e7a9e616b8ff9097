"""Webhook: events by HTTP, as JSON or by a template."""

from __future__ import annotations

from edge_adapters.webhook.options import WebhookOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: WebhookOptions, context: AdapterContext) -> Sink:
    from edge_adapters.webhook.sink import WebhookSink

    return WebhookSink(options, context)


SINK = SinkAdapter(
    name="webhook",
    summary="Events by HTTP as JSON or by a template, repeated until acknowledged, optionally signed (HMAC-SHA256).",
    options=WebhookOptions,
    build=_build,
)
