"""The CoAP devices of the plant: observable resources of stage 4, and the analysers of stage 2 that post SenML."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from typing import Any

import aiocoap
import aiocoap.error
import aiocoap.resource
import orjson
from aiocoap.numbers import ContentFormat

from edge_agent.demo.effects import Vector
from edge_agent.demo.tags import INDEX
from edge_agent.demo.wiring import OBSERVED, POSTED, SENML_DEVICE_PATH, Address

_SENML_JSON = 110
_ANSWER_WITHIN_S = 5.0


class CoapDevices:
    """Serves the observed tags under ``/<tag>`` and posts the pushed ones to the agent."""

    def __init__(self, agent: Address) -> None:
        self._agent = agent
        self._resources = {tag.name: _Reading() for tag in OBSERVED}
        self._context: aiocoap.Context | None = None
        self._posting: asyncio.Task[None] | None = None
        self.posted = 0
        self.unanswered = 0

    async def start(self, host: str, port: int) -> Address:
        """Listen (port 0: any free one) and give the address. :raises OSError: the port is taken."""
        port = port or _free_port(host)
        site = aiocoap.resource.Site()
        site.add_resource([".well-known", "core"], aiocoap.resource.WKCResource(site.get_resources_as_linkheader))
        for name, resource in self._resources.items():
            site.add_resource([name], resource)
        self._context = await aiocoap.Context.create_server_context(site, bind=(host, port), transports=["udp6"])
        # An agent that is not there yet is not worth a line on the terminal.
        logging.getLogger("coap-server").setLevel(logging.ERROR)
        return Address(host, port)

    def show(self, values: Vector) -> None:
        """Answer with ``values`` (of all tags) from now on, and notify the observers."""
        for name, resource in self._resources.items():
            resource.show(float(values[INDEX[name]]))

    def update(self, values: Vector, time_ns: int) -> None:
        """Show ``values``, and post them unless the last post still waits for its answer."""
        self.show(values)
        if self._posting is None or self._posting.done():
            self._posting = asyncio.create_task(self._post(values, time_ns), name="plant: post analysers")

    async def stop(self) -> None:
        """End observations and close the socket."""
        if self._posting is not None:
            self._posting.cancel()
            await asyncio.gather(self._posting, return_exceptions=True)
        if self._context is not None:
            await self._context.shutdown()

    async def _post(self, values: Vector, time_ns: int) -> None:
        pack = senml(values, time_ns)
        if not pack or self._context is None:
            return
        uri = f"coap://{self._agent}/{SENML_DEVICE_PATH}"
        request = aiocoap.Message(code=aiocoap.Code.POST, uri=uri, payload=orjson.dumps(pack))
        request.opt.content_format = ContentFormat(_SENML_JSON)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await self._context.request(request).response
            self.posted += 1
        except (TimeoutError, OSError, aiocoap.error.Error):
            self.unanswered += 1


def senml(values: Vector, time_ns: int) -> list[dict[str, Any]]:
    """The pushed tags as a SenML pack (RFC 8428); those without a reading are left out."""
    records: list[dict[str, Any]] = []
    for tag in POSTED:
        value = float(values[INDEX[tag.name]])
        if not math.isnan(value):
            records.append({"n": tag.name, "u": tag.unit, "v": value})
    if records:
        records[0] = {"bt": time_ns / 1e9, **records[0]}
    return records


class _Reading(aiocoap.resource.ObservableResource):  # type: ignore[misc]  # aiocoap is not typed
    """One tag as plain text; without a reading it answers 5.03 and notifies nobody."""

    def __init__(self) -> None:
        super().__init__()
        self._text: bytes | None = None

    def show(self, value: float) -> None:
        self._text = None if math.isnan(value) else f"{value:.7g}".encode()
        if self._text is not None:
            self.updated_state()

    async def render_get(self, request: Any) -> Any:
        if self._text is None:
            return aiocoap.Message(code=aiocoap.Code.SERVICE_UNAVAILABLE, payload=b"no reading")
        return aiocoap.Message(payload=self._text, content_format=ContentFormat.TEXT)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])
