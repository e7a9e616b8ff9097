"""Where the API listens: ``127.0.0.1:8470``, ``[::1]:8470`` or ``unix:/run/edge-agent/api.sock``."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_EXPECTED = "expected an IP address and a port such as 127.0.0.1:8470 or [::1]:8470, or unix:/path/to/socket"
_MAX_UNIX_PATH = 107  # sun_path holds 108 bytes with its end mark (unix(7))


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address (as text) and a port; port 0 takes any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix domain socket; who may connect is decided by the file's mode."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Read an address. :raises ValueError: saying what was found and expected."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(path.encode()) > _MAX_UNIX_PATH:
            raise ValueError(f"got {text!r}, expected an absolute path of at most {_MAX_UNIX_PATH} bytes after unix:")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"got {text!r}, {_EXPECTED}")
    return TcpAddress(_ip(host, text), int(port))


def _ip(host: str, text: str) -> str:
    """Names are not looked up: what the API listens on must not depend on a name server."""
    if host == "localhost":
        return "127.0.0.1"
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError as error:
        raise ValueError(f"got {text!r}, {_EXPECTED}") from error
    if (address.version == 6) is not bracketed:
        raise ValueError(f"got {text!r}, {_EXPECTED}")
    return str(address)
