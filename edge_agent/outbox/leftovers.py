"""Folders of the outbox: which is whose, and what becomes of those that no sink owns any more. Blocking."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, unquote

from edge_agent.clock import NS_PER_S
from edge_agent.contract import BufferOptions
from edge_agent.outbox.segment import SUFFIX
from edge_agent.verdict import rfc3339

_log = logging.getLogger("edge_agent.outbox")


def folder_of(root: Path, sink: str) -> Path:
    """The folder of ``sink`` below the outbox folder ``root``; any name makes a folder name."""
    quoted = quote(sink, safe=" ")
    return root / (quoted.replace(".", "%2E") if not quoted.strip(".") else quoted)


def tidy(root: Path, sinks: Collection[str], wall_ns: int, told: set[str]) -> None:
    """Say, once for each in ``told``, which folders no sink owns, and remove those nobody wrote to for long.

    Long is the default ``max_age`` of a sink's buffer, since its own options are gone with it. Never fails.
    """
    owned = {folder_of(root, name).name for name in sinks}
    try:
        folders = [path for path in root.iterdir() if path.is_dir() and path.name not in owned]
    except OSError:
        return
    for folder in folders:
        try:
            _look_at(folder, wall_ns, told)
        except OSError as error:
            _log.warning("%s: belongs to no sink and cannot be removed: %s", folder, error.strerror or error)


def _look_at(folder: Path, wall_ns: int, told: set[str]) -> None:
    events = list(folder.glob(f"*{SUFFIX}"))
    newest_ns = max((path.stat().st_mtime_ns for path in events), default=0)
    until_ns = newest_ns + round(BufferOptions().max_age * NS_PER_S)
    if wall_ns > until_ns:
        shutil.rmtree(folder)
        if events:
            _log.warning("%s: undelivered events of a sink that is gone, given up for their age", folder)
    elif folder.name not in told:
        told.add(folder.name)
        _log.warning(
            "%s: undelivered events of %r, which is no sink any more; a sink of this name delivers them, "
            "otherwise they are removed after %s",
            folder,
            unquote(folder.name),
            rfc3339(until_ns),
        )
