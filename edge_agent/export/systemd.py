"""The service manager's notification protocol (``sd_notify(3)``, ``sd_watchdog_enabled(3)``), without libsystemd."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Mapping

_log = logging.getLogger(__name__)
_USEC_PER_S = 1_000_000


class Notifier:
    """Tells systemd how the daemon is; does nothing where no service manager listens (``NOTIFY_SOCKET`` not set).

    Never raises and never blocks: a message that the manager cannot take now is lost, and said once in the log.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._failing = False
        self.watchdog_interval_s = _watchdog_interval_s(environ) if self._address is not None else None
        """Longest time between two calls of :meth:`watchdog` (half is customary), or None when it is off."""

    @property
    def enabled(self) -> bool:
        """True when a service manager listens."""
        return self._address is not None

    def ready(self, status: str | None = None) -> None:
        """Say that start-up, or a reload, is complete; without ``status`` the last one goes on being shown."""
        self._send("READY=1", *([] if status is None else [_status(status)]))

    def reloading(self) -> None:
        """Say that a reload has begun; :meth:`ready` ends it. The time stamp is required by ``Type=notify-reload``."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the daemon is shutting down."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Show ``text`` (one line) in ``systemctl status``."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """Say that the pipeline makes progress. To be called because it did, never by a mere timer."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failing:
                reason = errno.errorcode.get(error.errno or 0, str(error))
                _log.warning("NOTIFY_SOCKET %r: cannot notify the service manager (%s)", self._address, reason)
            self._failing = True
        else:
            self._failing = False


def _address(notify_socket: str) -> str | None:
    """A path, or an abstract socket written with ``@``; other kinds (``vsock:``) are for virtual machines' init."""
    if notify_socket.startswith("@"):
        return "\0" + notify_socket[1:]
    return notify_socket if notify_socket.startswith("/") else None


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.splitlines())


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """``WATCHDOG_PID`` names whom the watchdog is for: an inherited variable must not make a child answer."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isascii() or not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / _USEC_PER_S
