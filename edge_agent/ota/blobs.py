"""Files that trust has verified: ``<folder>/blobs/<sha256>``, read-only, and ``<folder>/partial/<sha256>.part``.

Blocking. What is here was right when it was put here; a card may rot, so each file is hashed again before it is used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from edge_agent.bundle import Bundle, read_bundle
from edge_agent.errors import BundleError, StoreError

MOST_KEPT = 3
_SHARE_OF_FREE = 0.25
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The files of updates below ``folder`` (``<data_dir>/ota``)."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._partial = folder / "partial"

    def path(self, sha256: str) -> Path:
        """Where the file is, or would be."""
        return self._blobs / sha256

    def partial(self, sha256: str) -> Path:
        """Where it is fetched to."""
        return self._partial / f"{sha256}.part"

    def held(self) -> frozenset[str]:
        """What is there, by name."""
        try:
            return frozenset(path.name for path in self._blobs.iterdir() if _SHA256.fullmatch(path.name))
        except OSError:
            return frozenset()

    def intact(self, sha256: str) -> bool:
        """Whether the file is there and what its name says; what is not is removed."""
        path = self.path(sha256)
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return True
        except OSError:
            return False
        _remove(path)
        return False

    def seal(self, sha256: str) -> None:
        """Check the file that was fetched and let nobody write to it. :raises StoreError: it is damaged."""
        if not self.intact(sha256):
            raise StoreError(
                f"{self.path(sha256)}: is missing or damaged right after it was fetched; the disk is failing"
            )
        try:
            self.path(sha256).chmod(0o444)
        except OSError as error:
            raise StoreError(f"{self.path(sha256)}: cannot be made read-only: {error.strerror or error}") from error

    def bundle(self, sha256: str) -> Bundle:
        """The model bundle in a file. :raises BundleError: it is not intact, or no bundle."""
        if not self.intact(sha256):
            raise BundleError(f"{self.path(sha256)}: is missing or damaged, expected the verified file")
        return read_bundle(self.path(sha256))

    def find_bundle(self, bundle: str) -> Bundle | None:
        """The bundle of that identity in any file, None when there is none."""
        for name in self.held():
            try:
                found = self.bundle(name)
            except BundleError:
                continue
            if found.sha256 == bundle:
                return found
        return None

    def remove(self, sha256: Collection[str]) -> None:
        """Remove these files and what was fetched of them; what the disk does not let go stays."""
        for name in sha256:
            _remove(self.path(name))
            _remove(self.partial(name))

    def collect(self, keep: Collection[str], free_bytes: int, most: int = MOST_KEPT) -> list[str]:
        """Remove the oldest until at most ``most`` models and a quarter of the free space are taken.

        Never one of ``keep``, nor its part; all other parts go. Returns what was removed: a disk that went read-only
        lets nothing go.
        """
        removed = []
        for part in self._files(self._partial):
            if part.name.removesuffix(".part") not in keep:
                _remove(part)
        stats = {path: path.stat() for path in self._files(self._blobs)}
        sizes = {path: stat.st_size for path, stat in stats.items()}
        spare = sorted((path for path in stats if path.name not in keep), key=lambda path: stats[path].st_mtime_ns)
        budget = _SHARE_OF_FREE * (free_bytes + sum(sizes.values()))
        while spare and (len(sizes) > most or sum(sizes.values()) > budget or not most):
            oldest = spare.pop(0)
            if _remove(oldest):
                sizes.pop(oldest)
                removed.append(oldest.name)
        return removed

    def _files(self, folder: Path) -> list[Path]:
        try:
            return [path for path in folder.iterdir() if path.is_file()]
        except OSError:
            return []


def _remove(path: Path) -> bool:
    """Whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
