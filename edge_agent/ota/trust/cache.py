"""The folder of trusted metadata: written so that a power cut leaves whole files, looked through before it is used.

It is a cache: what is lost comes again from the repository, judged by the root metadata that the gateway was set up
with. Two things must not come of that. A root that was replaced because its keys were stolen must not come back: the
numbers of the roots once trusted stay known as names in ``root_history/``. And an older release must not come back
when the versions in ``timestamp.json`` are gone: that is what the floors in the state of updates are for.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import stat
import time
from pathlib import Path

from edge_agent.durable import make_folder, quarantine, replace_durably, sync_folder

MAX_METADATA_BYTES = 5_000_000
HISTORY = "root_history"
_log = logging.getLogger("edge_agent.ota.trust")
_ROOT = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


def keep(path: Path, content: bytes) -> None:
    """Replace the file at ``path``, as :func:`~edge_agent.durable.replace_durably`. Same content is not written again
    (flash wears). :raises OSError: the disk is full or broken; the file is as it was."""
    if _read(path) == content:
        return
    make_folder(path.parent)
    replace_durably(path, content)


def put_damaged_aside(folder: Path) -> None:
    """Rename what cannot be metadata, so that it is fetched again. Roots stay: their names are still needed, and a
    good one takes the place of a bad one."""
    for path in sorted(folder.glob("*.json")):
        if path.name != "root.json" and not _may_be_metadata(path):
            quarantine(path, "is damaged, expected signed metadata", time.time_ns())
    for path in sorted((folder / HISTORY).glob("*.root.json")):
        if path.is_dir():
            quarantine(path, "is a folder, expected signed metadata", time.time_ns())
    for left in (*folder.glob("*.new"), *folder.glob(f"{HISTORY}/*.new")):
        left.unlink(missing_ok=True)


def newest_root(folder: Path) -> int:
    """Largest version of a root that was trusted here, 0 when there was none."""
    names = (_ROOT.fullmatch(path.name) for path in (folder / HISTORY).glob("*.root.json"))
    return max((int(match[1]) for match in names if match), default=0)


def kept_root(folder: Path, version: int) -> bytes | None:
    """What is kept as root ``version``, None when it is not there."""
    return _read(folder / HISTORY / f"{version}.root.json")


def forget(folder: Path) -> None:
    """Remove all that was trusted on the word of another first root."""
    _log.warning("%s: was made with another root than ota.root is now; begun anew", folder)
    shutil.rmtree(folder)
    sync_folder(folder.parent)
    make_folder(folder)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_METADATA_BYTES + 1)
    except OSError:
        return None


def _may_be_metadata(path: Path) -> bool:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_METADATA_BYTES:
        return False
    try:
        document = json.loads(_read(path) or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "signed" in document
