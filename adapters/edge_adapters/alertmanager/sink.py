"""The Alertmanager sink: alerts to every Alertmanager of a cluster, repeated while their incidents are open."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Final

import orjson

from edge_adapters.alertmanager.alerts import Alert, AlertBook
from edge_adapters.alertmanager.options import AlertmanagerOptions, Require, accept_link
from edge_adapters.http.client import HttpClient
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.templates import EventText, plain_text, title
from edge_agent.verdict import Event, EventKind, rfc3339

_STATUS_NAME: Final = "EdgeAgentStatus"
_AHEAD_NS: Final = 5 * NS_PER_S
_LONGEST_LABEL: Final = 1024


class AlertmanagerSink:
    """See :class:`edge_agent.contract.Sink`."""

    def __init__(self, options: AlertmanagerOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._texts = _texts(options, context)
        headers = {"Content-Type": "application/json", **_authorization(options)}
        self._clients = [HttpClient(url, options.tls, options.timeout, headers, context.clock) for url in options.urls]
        # What fires is still so when the agent builds the sink anew after a failure.
        firing = context.carried if isinstance(context.carried, AlertBook) else AlertBook(self._alert)
        firing.make = self._alert
        self._book = context.carried = firing
        self._missing = 0
        self._sending = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Ask for the status of each Alertmanager, and begin to repeat.

        :raises RetryableAdapterError: fewer than `require` answer. :raises AdapterError: one that is no Alertmanager.
        """
        for client in self._clients:
            await client.open()
        await self._at_all("GET", "/api/v2/status", None)
        self._keeper = asyncio.create_task(self._keep_firing(), name=f"alertmanager {self._context.name}: repeat")

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when `require` Alertmanagers have taken the alerts of all events.

        :raises RetryableAdapterError: not now. :raises AdapterError: an alert is refused, with Alertmanager's words.
        """
        async with self._sending:
            plan = self._book.plan(events)
            await self._post(plan.alerts)
            self._book.adopt(plan)

    async def close(self) -> None:
        """Stop repeating and close the connections."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        for client in self._clients:
            await client.close()

    async def _keep_firing(self) -> None:
        while True:
            await asyncio.sleep(self._options.repeat)
            try:
                # Never between the planning and the end of a delivery: a repeated alert would undo its resolving.
                async with self._sending:
                    plan = self._book.plan(self._book.missing(self._context.open_incidents()))
                    await self._post((*self._book.firing, *plan.alerts))
                    self._book.adopt(plan)
            except AdapterError as error:
                self._context.disconnected(str(error))

    async def _post(self, alerts: Sequence[Alert]) -> None:
        if alerts:
            await self._at_all("POST", "/api/v2/alerts", alerts)

    async def _at_all(self, method: str, path: str, alerts: Sequence[Alert] | None) -> None:
        """Send to every Alertmanager at once and judge by `require`."""
        requests = (self._send(client, method, path, alerts) for client in self._clients)
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, AdapterError):
                raise failure
        enough = not failures or (self._options.require is Require.ONE and len(failures) < len(self._clients))
        if not enough:
            raise _worst(failures)
        self._context.connected(", ".join(client.origin for client in self._clients))
        self._tell_missing(len(failures), failures[0] if failures else None)

    def _tell_missing(self, count: int, reason: BaseException | None) -> None:
        """Log when members of the cluster go and come back, while the others are enough."""
        if count and not self._missing:
            self._context.log.warning(
                "%d of %d Alertmanagers do not take alerts: %s", count, len(self._clients), reason
            )
        elif self._missing and not count:
            self._context.log.info("all %d Alertmanagers take alerts again", len(self._clients))
        self._missing = count

    async def _send(self, client: HttpClient, method: str, path: str, alerts: Sequence[Alert] | None) -> None:
        body = None
        if alerts is not None:
            latest = self._latest(client)
            body = orjson.dumps([alert.to_dict(latest) for alert in alerts])
        await client.send(method, body, url=client.url + path)

    def _latest(self, client: HttpClient) -> str | None:
        """The time there, when our clock is ahead: an end in the future would be no end yet."""
        there_ns = client.server_time_ns
        if there_ns is None or self._context.clock.wall_ns() - there_ns <= _AHEAD_NS:
            return None
        return rfc3339(there_ns)

    # -- from events to alerts

    def _alert(self, event: Event) -> Alert:
        body = event.body
        link = self._texts["link"].of(event) if "link" in self._texts else None
        annotations = {name: text.of(event) for name, text in self._texts.items()}
        if event.kind is not EventKind.INCIDENT:
            labels = {"alertname": _STATUS_NAME, "what": str(body.get("what", event.kind.value))}
            return Alert(self._labels(labels, body), _filled(annotations), rfc3339(event.time_ns), link=link or None)
        severity = str(body["severity"])
        labels = {
            "alertname": self._options.alert_name,
            "severity": next((say for ours, say in self._options.severities.items() if ours == severity), severity),
            "kind": str(body["kind"]),
            "area": ",".join(sorted(map(str, body.get("areas") or ()))),
            "incident": str(body["id"]),
        }
        ends = (body.get("closed") or body["updated"]) if body["state"] == "closed" else None
        return Alert(self._labels(labels, body), _filled(annotations), body["opened"], ends, link or None)

    def _labels(self, labels: dict[str, str], body: dict[str, Any]) -> dict[str, str]:
        every = {**self._options.labels, **labels, "gateway": str(body.get("agent", ""))}
        return {name: value[:_LONGEST_LABEL] for name, value in _filled(every).items()}


def _texts(options: AlertmanagerOptions, context: AdapterContext) -> dict[str, EventText]:
    failed = context.template_failed
    texts = {
        "summary": EventText("summary", options.summary, title, failed),
        "description": EventText("description", options.description, plain_text, failed),
    }
    for name, template in options.annotations.items():
        texts[name] = EventText(f"annotations.{name}", template, lambda event: "", failed)
    if options.link is not None:
        texts["link"] = EventText("link", options.link, lambda event: "", failed, accept=accept_link)
    return texts


def _filled(texts: dict[str, str]) -> dict[str, str]:
    """Without what is empty: to Alertmanager that is the same as not there."""
    return {name: text for name, text in texts.items() if text}


def _authorization(options: AlertmanagerOptions) -> dict[str, str]:
    if options.bearer_token is not None:
        return {"Authorization": f"Bearer {options.bearer_token.reveal()}"}
    if options.username is not None and options.password is not None:
        pair = f"{options.username}:{options.password.reveal()}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _worst(failures: Sequence[BaseException]) -> BaseException:
    """A failure that may pass: a second attempt is owed to that Alertmanager; otherwise a refusal."""
    passing = [failure for failure in failures if isinstance(failure, RetryableAdapterError)]
    return (passing or failures)[0]
