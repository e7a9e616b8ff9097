"""The Update Framework on the gateway: python-tuf's ``Updater``, with our time, our cache and our transports.

The workflow is python-tuf's (TUF specification, section 5, "detailed client workflow"). What it lacks is added here:
judging expiry by a time that cannot be set back, files that survive a power cut, and roots that are not forgotten when
a file of the chain is. One :class:`Repository` is one look: its metadata is fetched once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root, Signed, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge_agent.errors import OtaError
from edge_agent.ota.trust import cache
from edge_agent.ota.trust.transport import AbsentError, Patience, Transport

ISSUED = "x-edge-agent-issued"
"""Field of our timestamp metadata: when it was signed (RFC 3339). TUF lets signed metadata carry fields of others."""
_EXAMPLE = "2026-11-20T12:00:00Z"
_LAST_S = 253_402_300_799.0  # the end of 9999, the last moment that TUF's dates can say
_S = TypeVar("_S", bound=Signed)


class MetadataFetcher(FetcherInterface):
    """Gives python-tuf files of a transport, within one order's time."""

    def __init__(self, transport: Transport, patience: Patience) -> None:
        self._transport = transport
        self._patience = patience

    def _fetch(self, url: str) -> Iterator[bytes]:
        # A generator: what is raised here reaches the caller as it is, and not as python-tuf's DownloadError.
        self._patience.check(url)
        try:
            with self._transport.read(url) as reply:
                got = 0
                for chunk in reply.chunks:
                    self._patience.check(url)
                    got += len(chunk)
                    yield chunk
                if reply.total is not None and got < reply.total:
                    raise OtaError("unreachable", f"{url}: ended after {got} of {reply.total} bytes; tried again later")
        except AbsentError as error:
            raise tuf_errors.DownloadHTTPError(str(error), error.status) from error

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As of python-tuf, but in memory: a gateway's temporary folder may be full, or not writable.

        Timestamp and snapshot may say how long other metadata are; whoever has stolen their keys could say anything.
        """
        max_length = min(max_length, cache.MAX_METADATA_BYTES)
        content = bytearray()
        for chunk in self.fetch(url):
            content += chunk
            if len(content) > max_length:
                raise tuf_errors.DownloadLengthMismatchError(f"{url}: is longer than the {max_length} bytes expected")
        return bytes(content)


class PowerSafeUpdater(Updater):
    """python-tuf's, judging expiry at ``now`` and keeping metadata by :func:`~edge_agent.ota.trust.cache.keep`.

    It uses names that are not python-tuf's public interface (``_trusted_set``, ``_persist_file``, ``_dir``): there is
    no other way in 7.0. The tests pin them, and the dependency is held below 8.
    """

    def __init__(self, folder: Path, origin: str, root: bytes, now: datetime, fetcher: FetcherInterface) -> None:
        config = UpdaterConfig(targets_max_length=cache.MAX_METADATA_BYTES)
        super().__init__(str(folder), f"{origin}/metadata/", fetcher=fetcher, config=config, bootstrap=root)
        # The constructor has judged nothing by time yet: only the last root of the chain must not be expired.
        self._trusted_set.reference_time = now

    def refresh(self) -> None:
        """Fetch and check root, timestamp, snapshot and targets.

        :raises OtaError: ``rollback``; the chain of roots ends before one that was trusted here once. Others are
            python-tuf's.
        """
        super().refresh()
        version, seen = self._trusted_set.root.version, cache.newest_root(Path(self._dir))
        if version < seen:
            # The root kept here is damaged and the repository does not show it: perhaps somebody with its old keys.
            raise OtaError("rollback", f"root: got version {version}, expected {seen}, which was trusted here before")

    def _persist_file(self, filename: str, data: bytes) -> None:
        cache.keep(Path(filename), data)

    def trusted(self) -> list[Signed]:
        """All metadata that this look rests on."""
        return list(self._trusted_set)


class Repository:
    """One look at a repository. :raises OtaError: ``damaged_trust``; the root given is none."""

    def __init__(
        self, folder: Path, origin: str, root: bytes, now_s: float, transport: Transport, patience: Patience
    ) -> None:
        self._folder = folder
        self._fetcher = MetadataFetcher(transport, patience)
        now = datetime.fromtimestamp(min(max(now_s, 0.0), _LAST_S), UTC)
        try:
            self._forget_other_root(root)
            self._updater = PowerSafeUpdater(folder, origin, root, now, self._fetcher)
        except tuf_errors.RepositoryError as error:
            raise OtaError("damaged_trust", f"ota.root: cannot be trusted with itself: {error}") from error

    def refresh(self) -> None:
        """Fetch and check root, timestamp, snapshot and targets. :raises OtaError: and others, of python-tuf's."""
        self._updater.refresh()

    def find(self, path: str) -> TargetFile:
        """What the metadata says of the target ``path``. :raises OtaError: ``missing``; nobody who may has signed it"""
        found = self._updater.get_targetinfo(path)
        if found is None:
            raise OtaError("missing", f"target {path!r}: no signer that may name it has named it")
        return found

    def read(self, url: str, target: TargetFile) -> bytes:
        """The content of a small target, checked."""
        content = self._fetcher.download_bytes(url, target.length)
        target.verify_length_and_hashes(content)
        return content

    def expires_s(self) -> float:
        """When the first of the metadata that this look rests on expires."""
        return min(signed.expires for signed in self._updater.trusted()).timestamp()

    def version(self) -> int:
        """Of the timestamp metadata."""
        return self._of_type(Timestamp).version

    def signed_s(self) -> float:
        """Moment at which the timestamp was signed by its own word; 0 when it does not say so.

        :raises OtaError: ``signature``; it says something else, or a moment at which other metadata have expired: a
            stolen timestamp key must not push the gateway's time so far that nothing is ever valid again.
        """
        issued = self._of_type(Timestamp).unrecognized_fields.get(ISSUED)
        if issued is None:
            return 0.0
        with suppress(TypeError, ValueError, OverflowError):
            moment = datetime.fromisoformat(issued)
            if moment.tzinfo is not None and 0 <= moment.timestamp() < self.expires_s():
                return moment.timestamp()
        raise OtaError(
            "signature",
            f"timestamp: {ISSUED}: got {issued!r:.80}, expected a moment such as {_EXAMPLE}, before any expiry",
        )

    def _of_type(self, kind: type[_S]) -> _S:
        return next(signed for signed in self._updater.trusted() if isinstance(signed, kind))

    def _forget_other_root(self, root: bytes) -> None:
        """Start anew when the owner of the gateway has given it another root: the old one's chain does not count."""
        ours = Metadata[Root].from_bytes(root)
        kept = cache.kept_root(self._folder, ours.signed.version)
        if kept is None or kept == root:
            return
        try:
            other = Metadata[Root].from_bytes(kept)
            other.signed.verify_delegate(Root.type, other.signed_bytes, other.signatures)
        except tuf_errors.RepositoryError:
            return  # a damaged copy says nothing of another owner, and is written again
        if other.signed != ours.signed:
            cache.forget(self._folder)
