"""A repository in a folder of this machine (``file:///media/usb/fleet``), for gateways that no network reaches."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from edge_agent.errors import OtaError
from edge_agent.ota.trust.transport import CHUNK_BYTES, AbsentError, Reply


class Folder:
    """Reads regular files under the folder of ``origin``. Whoever filled it is not trusted: no link in it is followed,
    no name leads out of it, and nothing but a regular file is opened for reading (a pipe would block for ever)."""

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        if parts.netloc not in ("", "localhost"):
            raise OtaError("unreachable", f"repository: got {origin!r}, expected file:///folder (of this machine)")
        self._origin = origin.rstrip("/") + "/"
        self._folder = unquote(parts.path)

    @contextmanager
    def read(self, url: str, start: int = 0) -> Iterator[Reply]:
        """As of :class:`~edge_agent.ota.trust.transport.Transport`."""
        descriptor = self._open(url)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OtaError("unreachable", f"{url}: is no regular file, expected one")
            start = start if start < status.st_size else 0
            os.lseek(descriptor, start, os.SEEK_SET)
            yield Reply(start, status.st_size, _chunks(descriptor, url))
        finally:
            os.close(descriptor)

    def _open(self, url: str) -> int:
        """A descriptor of the file, reached one name at a time, so that no link can be put between (openat(2))."""
        names = self._names(url)
        at = self._enter(self._folder, None, url)
        for name in names[:-1]:
            above = at
            try:
                at = self._enter(name, above, url)
            finally:
                os.close(above)
        try:
            return os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        except OSError as error:
            raise _unusable(url, error) from error
        finally:
            os.close(at)

    def _names(self, url: str) -> tuple[str, ...]:
        names = PurePosixPath(unquote(url.removeprefix(self._origin))).parts
        if not url.startswith(self._origin) or not names or any(name in ("..", "/") or "\0" in name for name in names):
            raise OtaError("unreachable", f"{url!r}: leads out of the repository {self._origin!r}")
        return names

    def _enter(self, name: str, above: int | None, url: str) -> int:
        # The folder itself may be reached by a link: where it is mounted was said by the owner of this machine.
        no_link = 0 if above is None else os.O_NOFOLLOW
        try:
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | no_link, dir_fd=above)
        except OSError as error:
            raise (_unusable(url, error) if above is not None else _no_repository(name, error)) from error


def _chunks(descriptor: int, url: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, CHUNK_BYTES)
        except OSError as error:
            raise OtaError("unreachable", f"{url}: cannot be read: {error.strerror}") from error
        if not chunk:
            return
        yield chunk


def _unusable(url: str, error: OSError) -> OtaError:
    if isinstance(error, FileNotFoundError):
        return AbsentError(f"{url}: is not there")
    return OtaError("unreachable", f"{url}: cannot be opened: {error.strerror}; links are not followed")


def _no_repository(folder: str, error: OSError) -> OtaError:
    return OtaError("unreachable", f"repository: cannot open the folder {folder!r}: {error.strerror}; is it mounted?")
