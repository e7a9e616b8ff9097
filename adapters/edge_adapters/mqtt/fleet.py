"""The publisher's end of the MQTT uplink: nudges out, the latest report of each gateway in."""

from __future__ import annotations

import asyncio

import orjson

from edge_adapters.mqtt.link import Link
from edge_adapters.mqtt.nudge import MAX_REPORT_BYTES, nudge_json, nudge_topic, status_filter
from edge_adapters.mqtt.options import MqttUplinkOptions
from edge_adapters.mqtt.wire import Message
from edge_agent.contract import Hint
from edge_agent.errors import AdapterError, RetryableAdapterError

MAX_GATEWAYS = 50_000
MAX_TOTAL_BYTES = 128 << 20
"""Of all reports together; one has less than a kilobyte."""

QUIET_S = 1.0
LONGEST_S = 60.0
_HEADER_BYTES = 1_024


class MqttFleet:
    """One connection for each call; nothing is kept at the broker but the messages themselves."""

    def __init__(self, options: MqttUplinkOptions) -> None:
        self._options = options

    async def nudge(self, fleet: str, ring: str, hint: Hint) -> None:
        """Return when the broker has acknowledged the nudge, which it keeps. :raises AdapterError: not reached."""
        topic = nudge_topic(self._options.prefix, fleet, ring)
        link = Link(self._options)
        try:
            await link.open()
            await link.publish([(topic, nudge_json(hint))], qos=1, retain=True, timeout_s=self._options.timeout)
        finally:
            await link.close()

    async def reports(self, fleet: str) -> list[bytes]:
        """What the broker has kept, in the order of the gateways' names; complete when no more of it came for a second.

        What is written meanwhile is taken, too, but not waited for: somewhere in a fleet there are always news. A
        report under another gateway's topic is left out: brokers let each write its own only.

        :raises AdapterError: not reached, not quiet within a minute, or more gateways than can be.
        """
        found = _Found(self._options.timeout)
        link = Link(
            self._options,
            on_message=found.take,
            on_subscribed=found.go_on,
            max_packet=MAX_REPORT_BYTES + _HEADER_BYTES,
        )
        try:
            await link.open()
            async with found.quiet:
                link.subscribe([(status_filter(self._options.prefix, fleet), 1)])
                await link.wait_lost()
        except TimeoutError:
            return found.all(self._options.address)
        finally:
            await link.close()
        raise AssertionError("a lost connection always says why")


class _Found:
    """Latest report by topic; an empty, overlong or foreign one counts as none. ``quiet`` ends the wait for more."""

    def __init__(self, patience_s: float) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._last_s = self._now_s() + LONGEST_S
        self._reports: dict[bytes, bytes] = {}
        self._size = 0
        self._subscribed = self._too_many = self._endless = False
        self.quiet = asyncio.timeout(patience_s)

    def go_on(self) -> None:
        """The subscription is granted, or something has come: wait for more."""
        self._subscribed = True
        if self.quiet.expired():
            return
        if self._now_s() < self._last_s:
            self.quiet.reschedule(self._now_s() + QUIET_S)
        else:
            self._endless = True
            self.quiet.reschedule(self._now_s())

    def take(self, message: Message) -> bool:
        self._size -= len(self._reports.pop(message.topic, b""))
        if message.payload and len(message.payload) <= MAX_REPORT_BYTES and not _is_foreign(message):
            self._size += len(message.payload)
            if len(self._reports) < MAX_GATEWAYS and self._size <= MAX_TOTAL_BYTES:
                self._reports[message.topic] = message.payload
            else:
                self._size -= len(message.payload)
                self._too_many = True
        if message.retained:
            self.go_on()
        return True

    def all(self, address: str) -> list[bytes]:
        """Of the gateways in the order of their names. :raises AdapterError: that are not all."""
        if not self._subscribed:
            raise RetryableAdapterError(f"{address}: the broker does not answer to the subscription")
        if self._endless:
            raise RetryableAdapterError(f"{address}: reports still come after {LONGEST_S:g} s")
        if self._too_many:
            raise AdapterError(
                f"{address}: got reports of more than {MAX_GATEWAYS} gateways or {MAX_TOTAL_BYTES >> 20} MiB; "
                "check who may write them"
            )
        return [report for _, report in sorted(self._reports.items())]


def _is_foreign(message: Message) -> bool:
    """Whether a gateway speaks for another one."""
    try:
        report = orjson.loads(message.payload or b"")
    except orjson.JSONDecodeError:
        return False
    named = report.get("gateway") if isinstance(report, dict) else None
    return isinstance(named, str) and named.encode() != message.topic.split(b"/")[-3]
