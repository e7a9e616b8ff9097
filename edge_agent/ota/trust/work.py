"""What is done for one order: look at a ring, or bring a target. Blocking; one at a time in one folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import TargetFile

from edge_agent.durable import make_folder
from edge_agent.errors import OtaError
from edge_agent.ota.trust import cache
from edge_agent.ota.trust.client import Repository
from edge_agent.ota.trust.download import Download, Progress, Wanted
from edge_agent.ota.trust.pace import Pace
from edge_agent.ota.trust.reasons import translated
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import Patience, transport_for

MAX_RING_BYTES = 65_536
"""As of :mod:`edge_agent.ota.ring`, which is not imported here: it loads pydantic."""
_MAX_ROOT_BYTES = 512_000


@dataclass(frozen=True, slots=True)
class Vouched:
    """A ring file and what vouches for it; the fields are those of :class:`~edge_agent.ota.ports.Checked`."""

    ring_file: bytes
    signed_s: float
    expires_s: float
    version: int


def check(settings: Settings, origin: str, ring: str, now_s: float, patience: Patience) -> Vouched:
    """Refresh the metadata and get the file of ``ring``.

    :raises OtaError: as of :class:`~edge_agent.ota.ports.Trust`
    """
    path = f"rings/{ring}.json"
    with _ours(settings, patience), translated(origin):
        repository = _refreshed(settings, origin, now_s, patience)
        target = _find_ring(repository, path, ring)
        if target.length > MAX_RING_BYTES:
            raise OtaError("too_large", f"{path}: has {target.length} bytes, expected at most {MAX_RING_BYTES}")
        digest = target.hashes.get("sha256")
        if digest is None:
            raise OtaError("mismatch", f"{path}: is signed without sha256, expected one")
        content = repository.read(f"{origin}/targets/rings/{digest}.{ring}.json", target)
        return Vouched(content, repository.signed_s(), repository.expires_s(), repository.version())


def _find_ring(repository: Repository, path: str, ring: str) -> TargetFile:
    try:
        return repository.find(path)
    except OtaError as error:
        if error.reason != "missing":
            raise
        message = f"ring {ring!r}: nothing was published for it yet, or `ota.ring` is misspelt"
        raise OtaError("missing", message) from error


def fetch(
    settings: Settings,
    origin: str,
    wanted: Wanted,
    now_s: float,
    into: Path,
    patience: Patience,
    progress: Progress | None = None,
) -> None:
    """Download a target; ``wanted.url`` is its target path, as the ring file says it.

    :raises OtaError: as of :class:`~edge_agent.ota.ports.Trust`
    """
    path = wanted.url
    with _ours(settings, patience), translated(origin):
        target = _refreshed(settings, origin, now_s, patience).find(path)
        if (target.length, target.hashes.get("sha256")) != (wanted.length, wanted.sha256):
            raise OtaError(
                "mismatch",
                f"{path}: its signer says {target.length} bytes with sha256 {target.hashes.get('sha256')}, "
                f"the ring file {wanted.length} with {wanted.sha256}",
            )
        folder, _, name = path.rpartition("/")
        url = f"{origin}/targets/{folder}/{wanted.sha256}.{name}"
        transport = transport_for(origin, settings)
        download = Download(transport, settings.partial, Pace(settings.slowest), patience, progress)
        download.run(Wanted(url, wanted.sha256, wanted.length), into)


def _refreshed(settings: Settings, origin: str, now_s: float, patience: Patience) -> Repository:
    root = _first_root(settings.root)
    make_folder(settings.metadata / cache.HISTORY)
    cache.put_damaged_aside(settings.metadata)
    transport = transport_for(origin, settings)
    repository = Repository(settings.metadata, origin, root, now_s, transport, patience)
    repository.refresh()
    return repository


def _first_root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise OtaError("damaged_trust", f"ota.root: cannot read {str(path)!r}: {error.strerror}") from error
    if len(content) > _MAX_ROOT_BYTES:
        raise OtaError("damaged_trust", f"ota.root: {str(path)!r} is longer than {_MAX_ROOT_BYTES} bytes")
    return content


@contextmanager
def _ours(settings: Settings, patience: Patience) -> Iterator[None]:
    """The folder for this order alone: a process of a daemon that was killed may still be at work."""
    try:
        make_folder(settings.folder)
        lock = os.open(settings.folder / "trust.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OtaError("disk", f"{settings.folder}: cannot be used: {error.strerror}") from error
    try:
        while not _locked(lock):
            patience.check(f"{settings.folder}: another process is at work here")
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
