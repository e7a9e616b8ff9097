"""One connection to a broker on the event loop: no thread, no task, callbacks and one future to wait on.

::

    socket ──▶ PacketReader ──┬─ PUBLISH ──▶ on_message ──False──▶ reading stops until resume()
                              └─ the rest ─▶ paho ──▶ its callbacks
    socket ◀── outgoing ◀──────────────────── paho, acknowledgements, PINGREQ
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_adapters.mqtt.client import PacketPort, build_client, connect_arguments
from edge_adapters.mqtt.connect import open_socket, ready
from edge_adapters.mqtt.connection import ConnectionOptions, ProtocolVersion
from edge_adapters.mqtt.failures import network_failure, refusal
from edge_adapters.mqtt.wire import PINGREQ, Message, Other, PacketReader, ProtocolError, Released
from edge_agent.errors import AdapterError, RetryableAdapterError

T = TypeVar("T")

_READ_SIZE = 16384
"""Bytes a turn of the event loop: some 400 small messages, 2 ms, so that ticks are not kept waiting.

It is also the longest TLS record (RFC 8446 section 5.1): nothing stays behind in the TLS layer, unseen by the loop.
"""

_FAREWELL_S = 1.0

OnMessage = Callable[[Message], bool]
"""Called for each message in order. False: no room; it is not offered again, reading stops until ``resume``."""


class Link:
    """One connection, made once: ``open``, then the rest in any order, ``close`` in any case.

    ``received`` holds the identifiers of QoS 2 messages that were accepted but not yet released by the broker; it
    outlives the connection, because they come again when it breaks in between (MQTT 3.1.1 section 4.3.3).
    """

    def __init__(
        self,
        options: ConnectionOptions,
        *,
        on_message: OnMessage = lambda message: True,
        on_subscribed: Callable[[], None] = lambda: None,
        received: set[int] | None = None,
        session_expiry_s: float = 0.0,
        receive_maximum: int | None = None,
        max_packet: int = 65536,
    ) -> None:
        self._options = options
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._received = set() if received is None else received
        self._loop = asyncio.get_running_loop()
        self._packets = PacketReader(max_packet=max_packet, properties=options.version is ProtocolVersion.V5)
        self._client = build_client(options, self._make_port, persistent=session_expiry_s > 0)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_suback
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._arguments = connect_arguments(options, session_expiry_s=session_expiry_s, receive_maximum=receive_maximum)
        self._keepalive_s = options.keepalive
        self._sock: socket.socket | ssl.SSLSocket | None = None
        self._port = PacketPort(-1)
        self._heart: asyncio.TimerHandle | None = None
        self._last_received = self._last_sent = self._loop.time()
        self._ping_sent: float | None = None
        self._writing = self._broken = self._paused = self._closing = False
        self._failure: BaseException | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._session_present: bool | None = None
        self._filters: Sequence[tuple[str, int]] = ()
        self._unacknowledged: set[int] = set()

    async def open(self) -> bool:
        """Connect; True when the broker still has our session. :raises AdapterError: as in ``edge_agent.contract``."""
        return await self._in_time(self._open(), self._options.connect_timeout)

    async def _open(self) -> bool:
        self._sock = await open_socket(self._options)
        self._loop.add_reader(self._sock.fileno(), self._on_readable)
        self._client.connect(
            self._options.host, self._options.effective_port, max(1, round(self._options.keepalive)), **self._arguments
        )
        self._flush()
        await self._until(lambda: self._session_present is not None)
        self._keepalive_s = min(self._options.keepalive, self._client.keepalive or self._options.keepalive)
        self._heart = self._loop.call_later(self._keepalive_s / 10, self._heartbeat)
        return bool(self._session_present)

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> None:
        """Ask for all; ``on_subscribed`` is called when all are granted, a refusal ends the link.

        Not waited for: messages, for which there may be no room, come before the answer.
        """
        self._filters = filters
        if self._options.version is ProtocolVersion.V5:
            # A subscription that is already there does not repeat its retained messages.
            if_new = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            self._client.subscribe([(topic, SubscribeOptions(qos, retainHandling=if_new)) for topic, qos in filters])
        else:
            self._client.subscribe(list(filters))
        self._flush()

    async def publish(self, messages: Iterable[tuple[str, bytes]], *, qos: int, retain: bool, timeout_s: float) -> None:
        """Return when the broker has acknowledged all (QoS 0: when all are on the way)."""
        for topic, payload in messages:
            sent = self._client.publish(topic, payload, qos=qos, retain=retain)
            if qos:
                self._unacknowledged.add(sent.mid)
        self._flush()
        await self._in_time(self._until(lambda: not self._unacknowledged and not self._port.outgoing), timeout_s)

    async def wait_paused(self) -> None:
        """Return when ``on_message`` found no room. :raises AdapterError: when the connection is lost."""
        await self._until(lambda: self._paused)

    async def wait_lost(self) -> None:
        """Only ever ends by the exception that says why. :raises AdapterError:"""
        await self._until(lambda: False)

    @property
    def lost(self) -> bool:
        """True when nothing can be sent or received any more."""
        return self._failure is not None

    def drop(self, reason: AdapterError) -> None:
        """Give the connection up without a goodbye; who waits for it gets ``reason``."""
        self._lose(reason)

    def accept(self, message: Message) -> None:
        """Acknowledge ``message`` with the next flush; on a connection that is gone only remembered."""
        if message.qos == 1:
            self._write(b"\x40\x02" + message.mid.to_bytes(2, "big"))
        elif message.qos == 2:
            self._received.add(message.mid)
            self._write(b"\x50\x02" + message.mid.to_bytes(2, "big"))

    def resume(self) -> None:
        """Go on reading after ``wait_paused``."""
        self._paused = False
        if self._sock is None:
            return
        self._ping_sent = None
        self._last_received = self._loop.time()
        self._process()
        if not self._paused and self._sock is not None:
            self._loop.add_reader(self._sock.fileno(), self._on_readable)

    async def close(self) -> None:
        """Say goodbye, so that acknowledgements arrive and no will is sent, and release the socket."""
        self._closing = True
        try:
            if self._sock is not None and self._session_present is not None:
                await self._farewell(self._sock)
        finally:
            self._release()

    async def _farewell(self, sock: socket.socket | ssl.SSLSocket) -> None:
        self._loop.remove_reader(sock.fileno())
        self._client.disconnect()
        try:
            async with asyncio.timeout(_FAREWELL_S):
                while self._flush() and self._sock is not None:
                    self._loop.remove_writer(sock.fileno())
                    self._writing = False
                    await ready(sock.fileno(), write=True)
                # Closing with unread bytes would reset the connection, and the broker might lose what we wrote.
                sock.shutdown(socket.SHUT_WR)
                while True:
                    await ready(sock.fileno(), write=False)
                    if not sock.recv(_READ_SIZE):
                        return
        except (OSError, TimeoutError):
            return  # it was only politeness

    # -- reading

    def _on_readable(self) -> None:
        if self._sock is None or self._paused or self._closing:
            return
        try:
            chunk = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._lose(network_failure(self._options.address, "connection lost", error))
            return
        if not chunk:
            self._lose_because("the broker closed the connection")
            return
        self._last_received = self._loop.time()
        self._packets.feed(chunk)
        self._process()

    def _process(self) -> None:
        try:
            while not self._paused and self._sock is not None:
                packet = self._packets.next()
                if packet is None:
                    break
                self._handle(packet)
        except ProtocolError as error:
            self._lose_because(f"the broker sent something that is no MQTT: {error}")
        except Exception as error:  # a mistake of ours, in a callback: whoever waits for the link has to see it
            self._lose(error)
        self._flush()

    def _handle(self, packet: Message | Released | Other) -> None:
        if type(packet) is Message:
            if packet.qos == 2 and packet.mid in self._received:
                self.accept(packet)
            elif self._on_message(packet):
                if packet.qos:
                    self.accept(packet)
            else:
                self._pause()
        elif type(packet) is Released:
            self._received.discard(packet.mid)
            self._write(b"\x70\x02" + packet.mid.to_bytes(2, "big"))
        elif type(packet) is Other:
            self._hand_to_paho(packet.packet)

    def _hand_to_paho(self, packet: bytes) -> None:
        self._port.incoming = packet
        try:
            self._client.loop_read()
            self._client.loop_write()
        except (ValueError, IndexError, KeyError, struct.error) as error:
            raise ProtocolError(f"{packet[:20]!r}: {error}") from error

    def _pause(self) -> None:
        self._paused = True
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
        self._notify()

    # -- writing

    def _write(self, data: bytes) -> None:
        if self._sock is not None:
            self._port.outgoing += data

    def _flush(self) -> bool:
        """Send what can be sent; True when something is left."""
        if self._sock is None or self._broken:
            return False
        outgoing = self._port.outgoing
        try:
            while outgoing or self._client.want_write():
                if not outgoing:
                    self._client.loop_write()
                del outgoing[: self._sock.send(outgoing)]
                self._last_sent = self._loop.time()
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            if not self._writing and not self._closing:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                self._writing = True
            return True
        except OSError as error:
            # What the broker said before it closed is a better reason than that it closed.
            self._broken = True
            self._on_readable()
            self._lose(network_failure(self._options.address, "connection lost", error))
            return False
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
            self._writing = False
            self._notify()
        return False

    def _heartbeat(self) -> None:
        """Ask after 0.4 of the keepalive without traffic, give up after another 0.4 without an answer.

        paho's own check takes up to twice the keepalive, and takes our not reading for the broker's silence.
        """
        now, patience = self._loop.time(), 0.4 * self._keepalive_s
        unanswered = self._ping_sent is not None and self._last_received < self._ping_sent and not self._paused
        if unanswered and self._ping_sent is not None and now - self._ping_sent >= patience:
            self._lose_because(f"no answer within the keepalive of {self._keepalive_s:g} s (half-open connection)")
            return
        # While we do not read, only our own silence counts: the broker must not take us for dead.
        quiet_since = self._last_sent if self._paused else min(self._last_sent, self._last_received)
        if not unanswered and now - quiet_since >= patience:
            self._ping_sent = now
            self._write(PINGREQ)
            self._flush()
        if self._sock is not None:
            self._heart = self._loop.call_later(self._keepalive_s / 10, self._heartbeat)

    # -- what paho says

    def _make_port(self) -> PacketPort:
        self._port = PacketPort(-1 if self._sock is None else self._sock.fileno())
        return self._port

    def _on_connect(self, client: Any, userdata: Any, flags: paho.ConnectFlags, code: ReasonCode, _: Any) -> None:
        if code.is_failure:
            self._lose(refusal(self._options.address, "the broker refuses the connection", code))
            return
        if not flags.session_present:
            self._received.clear()
        self._session_present = flags.session_present
        self._notify()

    def _on_suback(self, client: Any, userdata: Any, mid: int, codes: list[ReasonCode], _: Any) -> None:
        for (topic, _), code in zip(self._filters, codes, strict=False):
            if code.is_failure:
                self._lose(
                    AdapterError(
                        f"{self._options.address}: the broker refuses the subscription to {topic!r}: {code.getName()} "
                        f"(reason code {code.value}); check its access rules and `share`"
                    )
                )
                return
        self._on_subscribed()

    def _on_publish(self, client: Any, userdata: Any, mid: int, code: ReasonCode, _: Any) -> None:
        if code.is_failure:
            self._lose(refusal(self._options.address, "the broker refuses a message", code))
            return
        self._unacknowledged.discard(mid)
        self._notify()

    def _on_disconnect(self, client: Any, userdata: Any, flags: paho.DisconnectFlags, code: ReasonCode, _: Any) -> None:
        if self._closing:
            return
        if flags.is_disconnect_packet_from_server:
            self._lose(refusal(self._options.address, "the broker ended the connection", code))
        else:
            self._lose_because(f"protocol error ({code.getName()})")

    # -- ending and waiting

    def _lose_because(self, reason: str) -> None:
        self._lose(RetryableAdapterError(f"{self._options.address}: {reason}"))

    def _lose(self, failure: BaseException) -> None:
        if self._failure is None and not self._closing:
            self._failure = failure
            self._release()
            self._notify()

    def _release(self) -> None:
        sock, self._sock = self._sock, None
        if self._heart is not None:
            self._heart.cancel()
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failure is not None:
                raise self._failure
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    async def _in_time(self, work: Awaitable[T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError as error:
            raise RetryableAdapterError(
                f"{self._options.address}: no answer from the broker within {timeout_s:g} s"
            ) from error
