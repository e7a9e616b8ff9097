"""A damaged file must not keep the agent from starting: it is put aside under another name, and somebody is told."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_agent.verdict import rfc3339

_KEPT = 2
_log = logging.getLogger("edge_agent.history")


def quarantine(path: Path, why: str, wall_ns: int, companions: tuple[str, ...] = ()) -> Path | None:
    """Rename ``path`` (and ``path`` + each of ``companions``) to ``*.damaged-<time>``; the newest two are kept.

    Returns the new name, or None when the file could not be renamed and was removed instead.
    """
    stamp = rfc3339(wall_ns).replace(":", "").replace("-", "").replace(".", "")
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    renamed = _move(path, target)
    for suffix in companions:
        _move(path.with_name(path.name + suffix), target.with_name(target.name + suffix))
    where = f"put aside as {target.name}" if renamed else "removed"
    _log.error("%s: %s; %s, going on with an empty one", path, why, where)
    _forget_old(path, companions)
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
