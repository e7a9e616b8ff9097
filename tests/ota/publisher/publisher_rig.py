"""A publisher with a clock of its own, and a gateway that trusts by python-tuf's client over plain files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from edge_agent.bundle.manifest import MANIFEST
from edge_agent.ota.publisher import Repository
from edge_agent.ota.ring import Ring, parse_ring, ring_path

PASSPHRASE = "correct horse battery"


def ask(_what: str, _new: bool) -> str:
    return PASSPHRASE


class Clock:
    """The real moment, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def place(folder: Path, files: dict[str, bytes]) -> Path:
    """A bundle folder."""
    folder.mkdir()
    assert MANIFEST in files
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return folder


def make(folder: Path, clock: Clock | None = None, **plan: Any) -> Repository:
    return Repository.init(folder, ask, now=clock, **plan)


class FileFetcher(FetcherInterface):
    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        if not path.is_file():
            raise DownloadHTTPError("404", 404)
        yield path.read_bytes()


class Client:
    """A gateway that was given the first root."""

    def __init__(self, folder: Path, served: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.served = served
        self._root = (served / "metadata" / "1.root.json").read_bytes()

    def get(self, path: str) -> bytes | None:
        """A target by its path; None: it is in no list."""
        updater = Updater(
            metadata_dir=str(self._folder),
            metadata_base_url=f"file://{self.served}/metadata/",
            target_dir=str(self._folder),
            target_base_url=f"file://{self.served}/targets/",
            fetcher=FileFetcher(),
            bootstrap=self._root,
        )
        updater.refresh()
        found = updater.get_targetinfo(path)
        if found is None:
            return None
        return Path(updater.download_target(found, str(self._folder / "target"))).read_bytes()

    def ring(self, name: str) -> Ring | None:
        raw = self.get(ring_path(name))
        return None if raw is None else parse_ring(raw, name)
