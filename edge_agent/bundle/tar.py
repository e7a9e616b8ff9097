"""The few tars that a bundle may be, read in one pass. Pure but for the stream.

The standard library reads any tar there ever was, and with it headers that take hours (a pax header of many digits is
searched in quadratic time) or lead back to where they are. A bundle needs short names, sizes and contents (POSIX.1-1988
ustar, pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html); what is more than that is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from edge_agent.errors import BundleError

_BLOCK = 512
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_TYPE, _MAGIC, _PREFIX = 156, slice(257, 263), slice(345, 500)
_REGULAR, _FOLDER, _ATTRIBUTES = (b"0", b"\0"), b"5", (b"x", b"g")
_MAX_ATTRIBUTES = 8_192
_MEANINGFUL = (b"path=", b"size=", b"GNU.", b"charset=")
"""What extended attributes must not contain: they would be another name or length than the header's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Its content, ``size`` bytes, is what the stream gives next."""

    name: str
    regular: bool
    folder: bool
    size: int


def tar_entries(file: IO[bytes]) -> Iterator[Entry]:
    """All entries in turn. Whoever takes one either reads all of its content or none before the next.

    :raises BundleError: it is no plain tar, is cut off, or has extended headers that change names or sizes.
    """
    while True:
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            raise _unreadable("it is cut off")
        if not any(header):
            return
        entry = _entry(header)
        content, kind = file.tell(), header[_TYPE : _TYPE + 1]
        if kind in _ATTRIBUTES:
            _check_attributes(file, entry.size)
        else:
            yield entry
        file.seek(content + -(-entry.size // _BLOCK) * _BLOCK)


def _entry(header: bytes) -> Entry:
    checksum = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
    if _octal(header[_CHECKSUM]) != checksum:
        raise _unreadable("the checksum of a header is wrong")
    kind = header[_TYPE : _TYPE + 1]
    name = _text(header[_NAME])
    if header[_MAGIC] == b"ustar\0" and header[_PREFIX.start]:
        name = f"{_text(header[_PREFIX])}/{name}"
    return Entry(name, kind in _REGULAR, kind == _FOLDER, _octal(header[_SIZE]))


def _text(field: bytes) -> str:
    try:
        return field.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError as error:
        raise _unreadable("a name is not UTF-8") from error


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if not digits or digits.strip(b"01234567"):
        raise _unreadable(f"got {field!r}, expected an octal number")
    return int(digits, 8)


def _check_attributes(file: IO[bytes], size: int) -> None:
    """Times and owners are nothing to us."""
    attributes = file.read(min(size, _MAX_ATTRIBUTES))
    if size > _MAX_ATTRIBUTES or any(word in attributes for word in _MEANINGFUL):
        raise _unreadable("extended headers that are long or change names or sizes")


def _unreadable(what: str) -> BundleError:
    return BundleError(
        f"not a readable plain tar: {what}; expected a folder or an uncompressed tar with manifest.json,"
        " model.onnx, card.md and the rest"
    )
