#!/usr/bin/env python3
"""Our TUF client behind the command line that tuf-conformance asks for (its CLIENT-CLI.md): init, refresh, download."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import quote

from tuf.api.metadata import Root

from edge_agent.errors import OtaError
from edge_agent.ota.trust import cache
from edge_agent.ota.trust.client import PowerSafeUpdater, Repository
from edge_agent.ota.trust.download import Download, Wanted
from edge_agent.ota.trust.pace import Pace
from edge_agent.ota.trust.reasons import translated
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import Patience, transport_for

_FIRST_ROOT = "first-root"


class Client:
    """One call of the command line."""

    def __init__(self, folder: Path, url: str) -> None:
        self._settings = Settings(folder, folder / _FIRST_ROOT)
        self._origin = url.rstrip("/").removesuffix("/metadata")
        self._transport = transport_for(self._origin, self._settings)
        self._patience = Patience(30.0)

    def refreshed(self) -> Repository:
        cache.put_damaged_aside(self._settings.folder)
        root = self._settings.root.read_bytes()
        repository = Repository(self._settings.folder, self._origin, root, time.time(), self._transport, self._patience)
        repository.refresh()
        return repository

    def download(self, names: list[str], base: str, folder: Path) -> None:
        """One after the other with one look at the repository; the first that fails ends it."""
        repository = self.refreshed()
        for name in names:
            self._fetch(repository, name, base, folder)

    def _fetch(self, repository: Repository, name: str, base: str, folder: Path) -> None:
        target = repository.find(name)
        sha256 = target.hashes.get("sha256")
        if sha256 is None:  # refused by the agent as well, which compares it with the ring file's
            raise OtaError("mismatch", f"target {name!r}: got {', '.join(target.hashes)}, expected a sha256")
        above, slash, file = name.rpartition("/")
        prefix = f"{sha256}." if _consistent(repository) else ""
        wanted = Wanted(f"{base.rstrip('/')}/{above}{slash}{prefix}{file}", sha256, target.length)
        download = Download(self._transport, self._settings.partial, Pace(1), self._patience)
        download.run(wanted, folder / quote(name, ""))


def _consistent(repository: Repository) -> bool:
    """Ours always are; the suite has others, too."""
    updater = repository._updater
    assert isinstance(updater, PowerSafeUpdater)
    return next(bool(signed.consistent_snapshot) for signed in updater.trusted() if isinstance(signed, Root))


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--metadata-dir", "--metadata-url", "--target-dir", "--target-base-url"):
        parser.add_argument(name)
    parser.add_argument("--target-name", action="append", default=[])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    order = parser.parse_args()
    folder = Path(order.metadata_dir)
    if order.command == "init":
        shutil.copyfile(order.trusted_root, folder / _FIRST_ROOT)
        return 0
    try:
        client = Client(folder, order.metadata_url)
        with translated(order.metadata_url):
            if order.command == "refresh":
                client.refreshed()
            else:
                client.download(order.target_name, order.target_base_url, Path(order.target_dir))
    except OtaError as error:
        sys.stderr.write(f"{error.reason}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
