"""Follows one resource of a device: observes it (RFC 7641) or polls it, for ever, whatever the device does.

Every resource has its own task and every device its own turn-taking lock (RFC 7252, 4.7: one outstanding request a
device), so that a dead device delays nobody else. The lock is not held while waiting for notifications.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aiocoap
from aiocoap import Code, Message, error
from aiocoap.numbers.constants import TransportTuning
from aiocoap.pipe import Pipe

from edge_adapters.coap.body import BodyReader, UnsupportedFormatError
from edge_adapters.coap.options import ClientMode, ClientResource, client_captures
from edge_agent.backoff import full_jitter
from edge_agent.contract import AdapterContext, Emitter
from edge_agent.errors import PayloadError

_DEFAULT_MAX_AGE_S: Final = 60  # RFC 7252, 5.10.5
_PENDING_NOTIFICATIONS: Final = 16
_REORDERED_WITHIN_S: Final = 128.0


class NoAnswerError(Exception):
    """The device did not answer, or not in a way that can be used; the message says which."""


class Availability:
    """Which resources answer. The source is connected while one of them does, or while it serves."""

    def __init__(self, context: AdapterContext, serving: bool) -> None:
        self._context = context
        self._serving = serving
        self._answering: set[str] = set()

    def up(self, uri: str) -> None:
        """``uri`` has answered."""
        self._answering.add(uri)
        self._context.connected(uri)

    def down(self, uri: str, reason: str) -> None:
        """``uri`` does not answer, because of ``reason``."""
        self._answering.discard(uri)
        self._context.reject("no_answer", f"{uri}: {reason}")
        if not self._answering and not self._serving:
            self._context.disconnected(f"no resource answers; {uri}: {reason}")


class Follower:
    """Keeps one resource's readings coming."""

    def __init__(
        self,
        resource: ClientResource,
        context: AdapterContext,
        emit: Emitter,
        coap: aiocoap.Context,
        turn: asyncio.Lock,
        availability: Availability,
        longest_pause_s: float,
    ) -> None:
        self._resource = resource
        self._context = context
        self._emit = emit
        self._coap = coap
        self._turn = turn
        self._availability = availability
        self._reader = BodyReader(resource, client_captures(resource), context)
        self._tuning = _tuning(resource.timeout)
        self._longest_pause_s = longest_pause_s
        self._failures = 0

    async def run(self) -> None:
        """Follow the resource until cancelled."""
        await asyncio.sleep(self._context.random.uniform(0, min(self._resource.interval, 1.0)))
        while True:
            try:
                pause_s = await self._round()
                self._failures = 0
            except (NoAnswerError, error.Error, OSError, TimeoutError) as problem:
                self._availability.down(self._resource.uri, _reason(problem, self._resource.timeout))
                self._failures += 1
                pause_s = full_jitter(self._context.random, self._failures, self._longest_pause_s)
            await asyncio.sleep(pause_s)

    async def _round(self) -> float:
        """One poll, or one observation to its end; the pause before the next one in seconds."""
        if self._resource.mode is ClientMode.OBSERVE:
            observed = await self._observe()
            if observed:
                return 0.0
        else:
            await self._poll()
        # A tenth of jitter keeps resources with the same interval from falling into step.
        return self._resource.interval * self._context.random.uniform(0.9, 1.1)

    async def _poll(self) -> None:
        async with self._turn, self._exchange(observe=False) as events:
            response = await self._whole(await events.first(self._resource.timeout))
        await self._take(response)

    async def _observe(self) -> bool:
        """Observe until the device falls silent or ends it; False when it does not allow observing."""
        async with AsyncExitStack() as exchange:
            async with self._turn:
                events = await exchange.enter_async_context(self._exchange(observe=True))
                response = await self._whole(await events.first(self._resource.timeout))
            await self._take(response)
            if response.opt.observe is None:
                return False
            while True:
                notification = await events.next(self._quiet_for_s(response))
                if notification is None:  # silence: ask again, which brings the present value or shows who is gone
                    return True
                async with self._turn:
                    response = await self._whole(notification)
                await self._take(response)
                if response.opt.observe is None:
                    return True

    def _quiet_for_s(self, response: Any) -> float:
        if self._resource.quiet_for is not None:
            return self._resource.quiet_for
        max_age = response.opt.max_age
        # RFC 7641, 3.3.1: a random 5 to 15 s more, so that not all clients ask at once.
        return float(_DEFAULT_MAX_AGE_S if max_age is None else max_age) + self._context.random.uniform(5, 15)

    async def _take(self, response: Any) -> None:
        if not response.code.is_successful():
            raise NoAnswerError(f"answered {response.code}")
        self._availability.up(self._resource.uri)
        try:
            batch = self._reader.read(bytes(response.payload), response.opt.content_format)
        except UnsupportedFormatError:
            text = (
                f"{self._resource.uri}: Content-Format {int(response.opt.content_format)} does not fit `payload.format`"
            )
            self._context.reject("content_format", text)
            return
        except PayloadError as problem:
            self._context.reject(problem.reason, f"{self._resource.uri}: {problem}")
            return
        if batch is not None:
            await self._emit.send(batch)

    async def _whole(self, response: Any) -> Any:
        """``response`` with the blocks that are missing (RFC 7959, Block2), up to the longest body allowed."""
        block = response.opt.block2
        if block is None or not block.more or not response.code.is_successful():
            return response
        body, etag = bytearray(response.payload), response.opt.etag
        async with asyncio.timeout(self._resource.timeout):
            while block is not None and block.more:
                if len(body) > self._resource.max_body:
                    raise NoAnswerError(f"the body is longer than {self._resource.max_body} bytes")
                wanted = (len(body) >> (block.size_exponent + 4), False, block.size_exponent)
                async with self._exchange(observe=False, block2=wanted) as events:
                    part = await events.first(self._resource.timeout)
                block = part.opt.block2
                if part.opt.etag != etag or block is None or block.start != len(body):
                    raise NoAnswerError("the representation changed while its blocks were read")
                body += part.payload
        response.payload = bytes(body)
        return response

    @asynccontextmanager
    async def _exchange(self, observe: bool, **options: Any) -> AsyncIterator[_Events]:
        """A GET and what comes back on its token; at the end nothing is listened to any more.

        A later notification is then answered with Reset, which ends the observation at the device (RFC 7641, 3.6).
        """
        request = Message(code=Code.GET, uri=self._resource.uri, transport_tuning=self._tuning, **options)
        if observe:
            request.opt.observe = 0
        pipe = Pipe(request, self._coap.log)
        events = _Events()
        stop = pipe.on_event(events.put)
        try:
            interface = await self._coap.find_remote_and_interface(request)
            interface.request(pipe)
            yield events
        finally:
            stop()


class _Events:
    """Responses to one request, in order; old notifications give way when more arrive than are read."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_PENDING_NOTIFICATIONS)
        self._newest: tuple[int, float] | None = None

    def put(self, event: Any) -> bool:
        """Callback of the pipe; True: call again."""
        if event.message is None or self._is_newer(event.message):
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(event)
        return not event.is_last

    async def first(self, timeout_s: float) -> Any:
        """The answer to the request. :raises TimeoutError: none came."""
        async with asyncio.timeout(timeout_s):
            return _message(await self._queue.get())

    async def next(self, timeout_s: float) -> Any | None:
        """The next notification; None when there is none for ``timeout_s``."""
        try:
            return await self.first(timeout_s)
        except TimeoutError:
            return None

    def _is_newer(self, message: Any) -> bool:
        """RFC 7641, 3.4: notifications may overtake each other; 24-bit numbers, compared around the circle."""
        number = message.opt.observe
        if number is None:
            return True
        now = asyncio.get_running_loop().time()
        if self._newest is not None:
            last, at = self._newest
            ahead = (number - last) % 2**24
            if not (0 < ahead < 2**23) and now <= at + _REORDERED_WITHIN_S:
                return False
        self._newest = number, now
        return True


def _message(event: Any) -> Any:
    if event.exception is not None:
        raise event.exception
    return event.message


def _tuning(timeout_s: float) -> Any:
    """Transmission parameters with which the library gives up no later than ``timeout_s`` (RFC 7252, 4.8.2)."""
    repetitions = 0
    while repetitions < 4 and 2.0 * 1.5 * (2 ** (repetitions + 2) - 1) <= timeout_s:
        repetitions += 1
    tuning = TransportTuning()
    tuning.MAX_RETRANSMIT = repetitions
    return tuning


def _reason(problem: BaseException, timeout_s: float) -> str:
    if isinstance(problem, TimeoutError | error.ConRetransmitsExceeded):
        return f"no answer within {timeout_s:g} s"
    return str(problem) or type(problem).__name__
