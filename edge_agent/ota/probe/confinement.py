"""What the child takes from itself before it reads a byte of a candidate. Linux.

Some of it is not allowed everywhere (a container forbids namespaces, say); then the child goes on without. What always
holds: limits of processor time, files and core dumps, and of address space where that can be used.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MAX_OPEN_FILES = 32
_NICE = 10


def leave_the_world() -> None:
    """Die with the parent, never gain rights, have no network, be the first that the kernel ends when memory is short.

    Only while the process has one thread: namespaces are not given otherwise.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    # A user may have a network of its own (an empty one) inside a user namespace; root would lose the files of others.
    if libc.unshare(_CLONE_NEWNET) != 0 and os.geteuid() != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    # Last: what changes a process's rights may forget it.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit(memory_bytes: int | None, cpu_s: float) -> None:
    """From here on: at most so much more address space (None: no limit) and processor time; no writing, no processes.

    ``memory_bytes`` comes on top of what is in use now, since an interpreter with its libraries reserves a lot. Leave
    it out where drivers reserve address space that they never use (CUDA).
    """
    if memory_bytes is not None:
        _set(resource.RLIMIT_AS, address_space() + memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for what, most in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        _set(what, most)


def _set(what: int, most: int) -> None:
    """Never above what the process may have at most."""
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def address_space() -> int:
    """Bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def forget_peak() -> None:
    """Let :func:`peak_memory` begin anew, where the kernel allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Most bytes of memory that were resident at a time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
