"""The hawkBit uplink: asks the server, passes deployments on as hints, and says how they went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from edge_adapters.hawkbit import ddi
from edge_adapters.hawkbit.options import HawkbitOptions
from edge_adapters.http.client import HttpClient
from edge_agent.contract import AdapterContext, Hint, UplinkPort
from edge_agent.errors import OtaError
from edge_agent.ota.report import Report, parse_report

_MAX_BYTES = 262_144
_ACCEPT = {"Accept": "application/hal+json, application/json", "Accept-Encoding": "identity"}
_SEND = {"Content-Type": "application/json"}

T = TypeVar("T")


@dataclass(slots=True)
class _Action:
    """A deployment of the server, and what it was told last about it."""

    number: str
    release: str
    told: ddi.Feedback | None = None


class HawkbitUplink:
    """Never downloads or installs anything: what a deployment names is looked for in the signed repository."""

    def __init__(self, options: HawkbitOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._client = HttpClient(options.url, options.tls, options.timeout, options.headers(), context.clock)
        self._base = ""
        self._report: Report | None = None
        self._wants_attributes = False
        self._cancelling: str | None = None
        # Known still when the agent builds the uplink anew, as it does after each failure.
        self._action: _Action | None = context.carried if isinstance(context.carried, _Action) else None

    async def run(self, port: UplinkPort) -> None:
        """Poll until cancelled. :raises RetryableAdapterError, AdapterError: as in the contract."""
        self._base = self._options.base(port.gateway)
        loop = asyncio.get_running_loop()
        try:
            await self._client.open()
            while True:
                pause_s = await self._poll(port)
                await self._tell()
                await self._follow_reports(port, loop.time() + pause_s)
        finally:
            self._context.carried = self._action
            await self._client.close()

    async def _follow_reports(self, port: UplinkPort, until_s: float) -> None:
        try:
            async with asyncio.timeout_at(until_s):
                while True:
                    self._hear(await port.next_report())
                    await self._tell()
        except TimeoutError:
            return

    def _hear(self, report: bytes) -> None:
        try:
            self._report = parse_report(report)
        except OtaError as error:
            self._context.reject("report", str(error))

    async def _poll(self, port: UplinkPort) -> float:
        """Ask once; how long to wait (s) before the next time."""
        poll = self._read(ddi.read_poll, await self._get(self._base))
        self._context.connected(self._client.origin)
        if poll is None:
            poll = ddi.Poll(ddi.DEFAULT_INTERVAL_S, None, None, wants_attributes=False)
        self._wants_attributes = poll.wants_attributes
        self._cancelling = poll.cancel
        if poll.deployment is not None:
            await self._deploy(poll.deployment, port)
        elif poll.cancel is None:
            self._action = None
        interval_s = self._options.poll_every or poll.interval_s
        return interval_s * self._context.random.uniform(0.9, 1.1)

    async def _deploy(self, number: str, port: UplinkPort) -> None:
        release = self._read(ddi.read_release, await self._get(f"{self._base}/deploymentBase/{number}"))
        if release is None:
            return
        if self._action is None or (self._action.number, self._action.release) != (number, release):
            self._action = _Action(number, release)
        if self._action.told is None or not self._action.told.final:
            port.look(Hint())

    async def _tell(self) -> None:
        """Tell the server what it wants to know and has not been told."""
        if self._report is not None:
            await self._tell_of_gateway(self._report)
        action = self._action
        if action is None or (action.told is not None and (action.told.final or self._report is None)):
            return
        feedback = ddi.feedback_on(action.release, self._report)
        if feedback != action.told:
            await self._post(f"deploymentBase/{action.number}", feedback)
            action.told = feedback

    async def _tell_of_gateway(self, report: Report) -> None:
        """Answer what cannot be answered without a report: later, when there is none yet."""
        if self._wants_attributes:
            await self._send("PUT", "configData", ddi.attributes(report))
            self._wants_attributes = False
        number, self._cancelling = self._cancelling, None
        if number is None:
            return
        stopped = self._read(ddi.read_stopped, await self._get(f"{self._base}/cancelAction/{number}")) or number
        known = self._action is not None and self._action.number == stopped
        answer = ddi.feedback_on_cancelling(self._action.release if known and self._action else None, report)
        await self._post(f"cancelAction/{number}", answer)
        if answer.final:
            self._action = None

    async def _post(self, action: str, feedback: ddi.Feedback) -> None:
        await self._send("POST", f"{action}/feedback", feedback.to_dict())

    async def _send(self, method: str, resource: str, body: dict[str, Any]) -> None:
        await self._client.send(method, orjson.dumps(body), _SEND, url=f"{self._base}/{resource}")

    async def _get(self, url: str) -> bytes:
        return await self._client.fetch(url, _ACCEPT, _MAX_BYTES)

    def _read(self, read: Callable[[Any], T], answer: bytes) -> T | None:
        """What ``answer`` says, None: it cannot be understood, which is counted."""
        try:
            return read(orjson.loads(answer))
        except ValueError as error:
            self._context.reject("malformed", f"{self._client.origin}: {error}")
            return None
