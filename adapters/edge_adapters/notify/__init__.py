"""Notifications for people: e-mail, chat and push services, through the library Apprise."""

from __future__ import annotations

from edge_adapters.notify.options import NotifyOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter


def _build(options: NotifyOptions, context: AdapterContext) -> Sink:
    from edge_adapters.notify.sink import NotifySink

    return NotifySink(options, context)


SINK = SinkAdapter(
    name="notify",
    summary="Notifications for people by e-mail, Slack, Teams, ntfy, Telegram and over a hundred other services.",
    options=NotifyOptions,
    build=_build,
    extra="notify",
)
