"""One file of the repository, whole and checked, however often the line is cut.

What has come is kept in ``partial/<sha256>.part`` and gone on with by HTTP Range. The name is the hash that was signed,
so that a part can only ever be continued with the same file. Nothing is read beyond the length that was signed, and
nothing gets its real name before its hash is right and its content is on the disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from edge_agent.durable import make_folder, sync_folder
from edge_agent.errors import OtaError
from edge_agent.ota.trust.pace import Pace
from edge_agent.ota.trust.transport import CHUNK_BYTES, Patience, RangeRefusedError, Reply, Transport

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be."""

SPARE_BYTES = 16 << 20
"""Left free on the disk for everything else that writes."""
_DURABLE_EVERY = 1 << 20
_KEPT_PARTS = 3
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file: where it is, its sha256 in hexadecimal, its length in bytes."""

    url: str
    sha256: str
    length: int


class Download:
    """Brings one file. Make a new one for every attempt."""

    def __init__(
        self, transport: Transport, folder: Path, pace: Pace, patience: Patience, progress: Progress | None = None
    ) -> None:
        self._transport = transport
        self._folder = folder
        self._pace = pace
        self._patience = patience
        self._progress = progress or (lambda here, whole: None)

    def run(self, wanted: Wanted, into: Path) -> None:
        """Bring ``wanted`` to the path ``into`` (on the same disk as the parts); durable on return.

        :raises OtaError: ``missing``, ``unreachable``, ``mismatch``, ``slow``, ``disk`` or ``timeout``. After
            ``unreachable``, ``slow`` and ``timeout`` the part stays, and the next attempt goes on with it.
        """
        if _is_there(into, wanted):
            return
        part = self._folder / f"{wanted.sha256}.part"
        try:
            make_folder(self._folder)
            make_folder(into.parent)
            tidy(self._folder, keep=part)
            with _opened(part) as file:
                self._complete(wanted, part, file)
            part.replace(into)
            sync_folder(into.parent)
            sync_folder(self._folder)
        except OSError as error:
            if error.errno in _FULL:
                part.unlink(missing_ok=True)  # others need the space more
            raise OtaError("disk", f"{part}: cannot be written: {error.strerror}; {wanted.length} bytes") from error

    def _complete(self, wanted: Wanted, part: Path, file: IO[bytes]) -> None:
        before, digest = _hashed(file, wanted.length)
        have, digest = self._rest(wanted, file, before, digest)
        if before and have == wanted.length and digest.hexdigest() != wanted.sha256:
            # What was here was torn by a power cut, or came from another server: that says nothing of this one.
            have, digest = self._rest(wanted, file, 0, hashlib.sha256())
        os.fsync(file.fileno())
        if have < wanted.length:
            raise OtaError("unreachable", f"{wanted.url}: was cut off after {have} of {wanted.length} bytes, goes on")
        if digest.hexdigest() != wanted.sha256:
            part.unlink()
            raise OtaError("mismatch", f"{wanted.url}: sha256 is {digest.hexdigest()}, expected {wanted.sha256}")

    def _rest(self, wanted: Wanted, file: IO[bytes], have: int, digest: _Hash) -> tuple[int, _Hash]:
        """Bring what is missing; how much is here then, and its hash."""
        if have == wanted.length:
            return have, digest
        _check_space(self._folder, wanted.length - have)
        try:
            return self._receive(wanted, file, have, digest)
        except RangeRefusedError:
            return self._receive(wanted, file, 0, hashlib.sha256())

    def _receive(self, wanted: Wanted, file: IO[bytes], have: int, digest: _Hash) -> tuple[int, _Hash]:
        """Append what comes; how much is here then, and its hash."""
        with self._transport.read(wanted.url, have) as reply:
            if reply.total is not None and reply.total != wanted.length:
                raise OtaError("mismatch", f"{wanted.url}: has {reply.total} bytes, expected {wanted.length}")
            if reply.start != have:  # it does not do ranges
                have, digest = 0, hashlib.sha256()
            file.seek(have)
            file.truncate()
            try:
                have = self._append(wanted, file, have, digest, reply)
            finally:
                os.fsync(file.fileno())
        return have, digest

    def _append(self, wanted: Wanted, file: IO[bytes], have: int, digest: _Hash, reply: Reply) -> int:
        durable = have
        for chunk in reply.chunks:
            self._patience.check_stopped()
            taken = chunk[: wanted.length - have]
            _write_all(file, taken)
            digest.update(taken)
            have += len(taken)
            self._progress(have, wanted.length)
            if have == wanted.length:
                break
            if have - durable >= _DURABLE_EVERY:
                os.fsync(file.fileno())
                durable = have
            self._pace.count(len(taken), wanted.url)
        return have


def tidy(folder: Path, keep: Path) -> None:
    """Remove what is no part, and all parts but ``keep`` and the newest others."""
    parts = []
    for path in folder.iterdir():
        status = path.lstat()
        if path.suffix == ".part" and stat.S_ISREG(status.st_mode):
            parts.append((status.st_mtime_ns, path))
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    others = sorted((at, path) for at, path in parts if path != keep)
    for _, path in others[: max(0, len(others) - (_KEPT_PARTS - 1))]:
        path.unlink()


def _opened(part: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(part, flags, 0o600), "r+b", buffering=0)


def _hashed(file: IO[bytes], length: int) -> tuple[int, _Hash]:
    """How much of the file is here already, and its hash. A part that is too long is of no use."""
    digest, have = hashlib.sha256(), 0
    if os.fstat(file.fileno()).st_size > length:
        file.truncate(0)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        have += len(chunk)
    return have, digest


def _is_there(path: Path, wanted: Wanted) -> bool:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != wanted.length:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == wanted.sha256
    except OSError:
        return False


def _check_space(folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < missing + SPARE_BYTES:
        raise OtaError(
            "disk", f"{folder}: {free} bytes are free, expected {missing} for the download and {SPARE_BYTES} to spare"
        )


def _write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
