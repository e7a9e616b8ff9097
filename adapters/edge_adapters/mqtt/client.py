"""paho-mqtt on a socket of ours: it writes and reads packets, and never touches the network, threads or clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_adapters.mqtt.connection import ConnectionOptions, ProtocolVersion

_FULL = 1 << 20


class PacketPort:
    """What paho takes for its socket: one packet at a time goes in, and whole packets come out into ``outgoing``."""

    def __init__(self, fileno: int) -> None:
        self.outgoing = bytearray()
        self.incoming = b""
        self.ended = False
        self._fileno = fileno

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            if self.ended:
                return b""
            raise BlockingIOError
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        return data

    def send(self, data: bytes | bytearray) -> int:
        if len(self.outgoing) > _FULL:
            raise BlockingIOError  # paho keeps the packet and is asked again
        self.outgoing += data
        return len(data)

    def fileno(self) -> int:
        return self._fileno

    def setblocking(self, flag: bool) -> None:
        """Nothing here ever blocks."""

    def close(self) -> None:
        """The socket behind is closed by the link, after what is outgoing has left."""


class PortClient(paho.Client):
    """A paho client that uses a given :class:`PacketPort` instead of connecting by itself, which would block."""

    def __init__(self, port_factory: Callable[[], PacketPort], **arguments: Any) -> None:
        self._port_factory = port_factory
        super().__init__(CallbackAPIVersion.VERSION2, reconnect_on_failure=False, **arguments)

    def _create_socket(self) -> Any:
        return self._port_factory()


def build_client(options: ConnectionOptions, port_factory: Callable[[], PacketPort], *, persistent: bool) -> PortClient:
    """A client with identity and credentials; not connected yet."""
    if options.version is ProtocolVersion.V5:
        client = PortClient(port_factory, client_id=options.client_id, protocol=paho.MQTTv5)
    else:
        client = PortClient(port_factory, client_id=options.client_id, clean_session=not persistent)
    if options.username is not None:
        client.username_pw_set(options.username, options.password.reveal() if options.password else None)
    return client


def connect_arguments(
    options: ConnectionOptions, *, session_expiry_s: float, receive_maximum: int | None
) -> dict[str, Any]:
    """What differs between the versions when connecting."""
    if options.version is not ProtocolVersion.V5:
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    properties.SessionExpiryInterval = int(session_expiry_s)
    if receive_maximum is not None:
        properties.ReceiveMaximum = receive_maximum
    return {"clean_start": session_expiry_s == 0, "properties": properties}
