"""Memory given back to the system once everything is loaded."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

_MADV_PAGEOUT = 21  # Linux 5.4, include/uapi/asm-generic/mman-common.h
_MAPS = Path("/proc/self/maps")


def trim_heap() -> None:
    """Give freed heap back to the system, as after a model was exchanged; glibc keeps it otherwise.

    Takes less than a millisecond and lets other threads run meanwhile. Unlike :func:`release_memory` it does not look
    for garbage, for which everything would have to stand still.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_memory() -> None:
    """Give back what start-up needed and running does not: free heap, and pages of libraries nobody executes.

    glibc keeps freed heap unless told otherwise. Of the code of ONNX Runtime, numpy and aiohttp most is read once at
    start; such pages are clean copies of files, so dropping them costs nothing but a read from the page cache should
    they be wanted again. Blocks for some milliseconds: call it in a thread. Where the system offers neither, it does
    nothing.
    """
    gc.collect()
    gc.freeze()  # what is there now stays: later collections, for which everything stands still, need not look at it
    trim_heap()
    libc = ctypes.CDLL(None)
    with contextlib.suppress(OSError, AttributeError):
        for address, length in _library_code(_MAPS.read_text()):
            libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_PAGEOUT)


def _library_code(maps: str) -> list[tuple[int, int]]:
    """Address and length of the mappings of shared libraries that are not writable (proc(5), ``/proc/pid/maps``)."""
    found = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and ".so" in fields[5] and "w" not in fields[1]:
            first, last = (int(end, 16) for end in fields[0].split("-"))
            found.append((first, last - first))
    return found
