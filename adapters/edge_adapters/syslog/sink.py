"""The syslog sinks: messages made, sent, and sent again where they may not have been read."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final

from edge_adapters.syslog.datagrams import Datagrams
from edge_adapters.syslog.facts import facts
from edge_adapters.syslog.message import Messages, framed
from edge_adapters.syslog.options import SyslogOptions, Transport
from edge_adapters.syslog.stream import Stream
from edge_agent import __version__
from edge_agent.backoff import full_jitter
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext, Sink
from edge_agent.errors import AdapterError
from edge_agent.tls import client_context
from edge_agent.verdict import Event

IN_DOUBT_S: Final = 10.0
_MOST_IN_DOUBT: Final = 1_000


def syslog_sink(options: SyslogOptions, context: AdapterContext) -> Sink:
    """The sink for the transport of ``options``."""
    return DatagramSink(options, context) if options.transport is Transport.UDP else StreamSink(options, context)


class _Formatter:
    """Messages of events; what had to be cut is counted."""

    def __init__(self, options: SyslogOptions, context: AdapterContext) -> None:
        self._messages = Messages(options, str(os.getpid()), __version__)
        self._context, self._longest = context, options.effective_length

    async def messages(self, events: Sequence[Event]) -> list[bytes]:
        """One message for each event."""
        made = []
        for event in events:
            message, was_cut = self._messages.message(facts(event))
            made.append(message)
            if was_cut:
                self._context.parts_lost("truncated", f"event {event.id} is cut to {self._longest} bytes, `max_length`")
            await asyncio.sleep(0)  # hundreds of messages in one go would hold up the tick
        return made


class DatagramSink:
    """Over UDP. Delivered means: handed to the network, and nobody has answered that it leads nowhere."""

    def __init__(self, options: SyslogOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._formatter = _Formatter(options, context)
        self._datagrams: Datagrams | None = None

    async def open(self) -> None:
        """Look the receiver up. :raises RetryableAdapterError: its name is not known, or there is no way to it."""
        options = self._options
        self._datagrams = await Datagrams.open(options.host, options.effective_port, options.address, options.timeout)
        self._context.connected(options.address)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Send. :raises RetryableAdapterError: this machine cannot send, or was told that nobody listens there."""
        assert self._datagrams is not None
        await self._datagrams.send(await self._formatter.messages(events))
        self._context.connected(self._options.address)

    async def close(self) -> None:
        """Release the socket."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None


class SentLately:
    """Frames that the other machine has taken not long ago, and those that have to be sent again.

    When a connection breaks off, frames younger than ``IN_DOUBT_S`` may not have been read by the receiver.
    """

    def __init__(self) -> None:
        self.again: list[bytes] = []
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=_MOST_IN_DOUBT)

    def sent(self, frames: Sequence[bytes], now_ns: int) -> None:
        """Note frames that were sent."""
        self._sent.extend((now_ns, frame) for frame in frames)

    def broken_off(self, now_ns: int) -> int:
        """The connection broke off; how many frames will be sent again."""
        doubtful = [frame for at_ns, frame in self._sent if now_ns - at_ns < IN_DOUBT_S * NS_PER_S]
        self.settled()
        self.again += doubtful
        return len(doubtful)

    def settled(self) -> None:
        """The receiver has read everything."""
        self._sent.clear()


class StreamSink:
    """Over TCP and TLS. Delivered means: the receiver's machine has it, and the connection still stood then.

    A receiver that breaks off (it was killed, its machine failed) may not have read the last of it: what was sent in
    the seconds before is sent again, so that it may come twice; the event's id, which is in each message, tells.
    """

    def __init__(self, options: SyslogOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._formatter = _Formatter(options, context)
        self._stream: Stream | None = None
        self._connecting = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        if not isinstance(context.carried, SentLately):
            context.carried = SentLately()
        self._lately = context.carried

    async def open(self) -> None:
        """Connect. :raises RetryableAdapterError: as :meth:`Stream.open`. :raises AdapterError: unusable TLS files."""
        await self._connected()
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"syslog sink {self._context.name}: reconnect")

    async def deliver(self, events: Sequence[Event]) -> None:
        """Send. :raises RetryableAdapterError: it may not have arrived."""
        frames = [framed(message, self._options.framing) for message in await self._formatter.messages(events)]
        stream = await self._connected()
        if frames:
            await self._send(stream, frames)

    async def close(self) -> None:
        """Say goodbye and release the socket."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        stream, self._stream = self._stream, None
        if stream is not None:
            self._look_back(stream)
            await stream.close()

    async def _connected(self) -> Stream:
        """The connection, made anew if it is lost; what is in doubt goes first."""
        async with self._connecting:
            stream = self._stream
            if stream is not None:
                await asyncio.sleep(0)  # what the receiver did meanwhile is heard here
            if stream is None or stream.lost is not None:
                if stream is not None:
                    self._look_back(stream)
                stream = self._stream = await self._connect()
                self._context.connected(self._options.address)
            if self._lately.again:
                await self._send(stream, self._lately.again)
                self._lately.again = []
            return stream

    async def _connect(self) -> Stream:
        options = self._options
        # Built anew for each connection: renewed certificate files are taken up without a restart.
        tls: ssl.SSLContext | None = None
        if options.transport is Transport.TLS:
            tls = await asyncio.to_thread(client_context, options.tls)
        return await Stream.open(
            options.host, options.effective_port, options.address, options.timeout, tls, options.tls.server_name
        )

    async def _send(self, stream: Stream, frames: Sequence[bytes]) -> None:
        await stream.send(b"".join(frames))
        self._lately.sent(frames, self._context.clock.monotonic_ns())

    def _look_back(self, stream: Stream) -> None:
        """Of a connection that is over: was everything read?"""
        if stream.lost is None or not stream.reset:
            self._lately.settled()
            return
        doubtful = self._lately.broken_off(self._context.clock.monotonic_ns())
        if doubtful:
            self._context.log.warning(
                "%s: %s; the last %d messages are sent again", self._options.address, stream.lost, doubtful
            )

    async def _keep_connected(self) -> None:
        """Between deliveries, which may be days apart, a lost connection is made again."""
        failures = 0
        while True:
            try:
                stream = await self._connected()
                failures = 0
                await stream.gone.wait()
                self._context.disconnected(str(stream.lost))
            except AdapterError as error:
                # Not the end of the sink: the next delivery raises what is wrong to who can judge it.
                self._context.disconnected(str(error))
            failures += 1
            await asyncio.sleep(full_jitter(self._context.random, failures, self._options.retry_max))
