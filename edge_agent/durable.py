"""Files that must survive power loss, and what becomes of those that did not. Everything here blocks on the disk."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

_KEPT = 2
_log = logging.getLogger("edge_agent.durable")


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file; its content is durable on return, its name only after :func:`sync_folder`."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    """Have ``content`` in the file at ``path``, whose folder is there: durable on return, never half of it.

    :raises OSError: the disk is full or broken; the file is as it was.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        write_durably(fresh, content)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            os.remove(fresh)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were made, changed or removed in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it that are missing; all of them are durable on return."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def quarantine(
    path: Path, why: str, wall_ns: int, companions: tuple[str, ...] = (), *, name: str | None = None
) -> Path | None:
    """Rename ``path`` (and ``path`` + each of ``companions``) to ``*.damaged-<time>``; the newest two are kept.

    ``name``: what the new name begins with, for files of which any two are alike; the file's own by default.
    Returns the new name, or None when the file could not be renamed and was removed instead.
    """
    from edge_agent.verdict import rfc3339  # loads numpy, which processes that only write files do without

    base = path.with_name(name or path.name)
    stamp = rfc3339(wall_ns).replace(":", "").replace("-", "").replace(".", "")
    target = base.with_name(f"{base.name}.damaged-{stamp}")
    renamed = _move(path, target)
    for suffix in companions:
        _move(path.with_name(path.name + suffix), target.with_name(target.name + suffix))
    where = f"put aside as {target.name}" if renamed else "removed"
    _log.error("%s: %s; %s, going on without it", path, why, where)
    _forget_old(base, companions)
    return target if renamed else None


def _move(path: Path, target: Path) -> bool:
    try:
        path.replace(target)
    except FileNotFoundError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


def _forget_old(path: Path, companions: tuple[str, ...]) -> None:
    damaged = sorted(path.parent.glob(f"{path.name}.damaged-*"))
    main = [file for file in damaged if not file.name.endswith(companions or ("\0",))]
    for old in main[:-_KEPT]:
        for suffix in ("", *companions):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
