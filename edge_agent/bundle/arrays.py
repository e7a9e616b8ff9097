"""Arrays in ``.npz`` files, read without trusting them. Pure.

`numpy.load` allocates what a header asks for before it looks at how much data there is, and a zip entry can unpack to
gigabytes. Here the unpacked length is limited first, and the header must fit the bytes that follow it. Pickled objects
are refused by their type.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import BundleError

MAX_ARRAYS = 64
_DIRECTORY_ENTRY = b"PK\x01\x02"
_SUFFIX = ".npy"
_ALLOWED_KINDS = "biufU"


def write_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Compressed ``.npz`` bytes; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    # The names contain dots and are no Python identifiers, which keyword arguments do not mind.
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def read_npz(where: str, raw: bytes, max_unpacked: int) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz``, read-only, at most ``max_unpacked`` bytes; ``where`` names it in the error."""
    # Each entry of the directory becomes an object before any of them can be looked at.
    if raw.count(_DIRECTORY_ENTRY) > MAX_ARRAYS:
        raise BundleError(f"{where}: got more than {MAX_ARRAYS} arrays, expected at most that many")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _read_all(where, archive, max_unpacked)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise BundleError(f"{where}: not a readable .npz file: {error}") from error


def _read_all(where: str, archive: zipfile.ZipFile, max_unpacked: int) -> dict[str, NDArray[Any]]:
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ARRAYS or total > max_unpacked:
        raise BundleError(
            f"{where}: got {len(entries)} arrays of {total} bytes unpacked,"
            f" expected at most {MAX_ARRAYS} of {max_unpacked} bytes"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for entry in entries:
        name = entry.filename.removesuffix(_SUFFIX)
        if name in arrays or name == entry.filename:
            raise BundleError(f"{where}: got entry {entry.filename!r}, expected each array once, named *{_SUFFIX}")
        # `read` of the archive stops at the announced length, so the limit above holds for what is really unpacked.
        arrays[name] = _read_array(f"{where}: {name}", archive.read(entry))
    return arrays


def _read_array(where: str, raw: bytes) -> NDArray[Any]:
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise BundleError(f"{where}: got array format {version}, expected 1.0 or 2.0")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in _ALLOWED_KINDS or dtype.itemsize == 0:
        raise BundleError(f"{where}: got type {dtype}, expected numbers or text")
    data = raw[stream.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise BundleError(f"{where}: got {len(data)} bytes for shape {shape} of {dtype}, expected them to agree")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
