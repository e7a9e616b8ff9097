"""Memory that another model may take: of the system, and of the control group that limits the agent."""

from __future__ import annotations

import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")  # proc(5): MemAvailable, without swapping
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
"""Control groups v2 (Linux, Documentation/admin-guide/cgroup-v2.rst, "Memory Interface Files")."""


def free_memory_bytes() -> int:
    """The smaller of both; very much where the system does not say."""
    return min(_of_the_system(), _of_the_group())


def _of_the_system() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return sys.maxsize


def _of_the_group() -> int:
    """Within the tightest limit of our group and those around it; file cache does not count, it makes room."""
    least = sys.maxsize
    try:
        own = _OWN_GROUP.read_text().partition("0::/")[2].strip()
    except OSError:
        return least
    folder = _GROUPS / own
    while folder.is_relative_to(_GROUPS):
        least = min(least, _left(folder))
        folder = folder.parent
    return least


def _left(folder: Path) -> int:
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return sys.maxsize
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, int(limit) - used + int(stat.get("inactive_file", "0")))
    except (OSError, ValueError):
        return sys.maxsize
