"""A disk that keeps no more than it has to: what may be left of recorded file operations when power is lost.

The model (after ALICE, Pillai et al., OSDI 2014): what was written since a file's last fsync may be there, missing,
torn or zeros, sector by sector; a name made, changed or removed since its folder's last fsync may be so or as before.
A journal keeps the order of the names, so that those not synced survive up to some point.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<cQII")
_SECTOR = 512


@dataclass(frozen=True)
class Operation:
    """One change, as the recorder writes it down."""

    kind: str
    number: int
    path: str
    data: bytes


def read_log(path: Path) -> list[Operation]:
    """Everything that was recorded."""
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        kind, number, length, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        name = content[at : at + length].decode()
        found.append(Operation(kind.decode(), number, name, content[at + length : at + length + size]))
        at += length + size
    return found


@dataclass(eq=False)
class _File:
    synced: bytes = b""
    pending: list[Operation] = field(default_factory=list)
    folder: bool = False

    def content(self, chance: random.Random, choice: str) -> bytes:
        """What is left: ``all``, ``none`` of the pending, its length with ``zeros``, or ``some`` sectors of it."""
        left = bytearray(self.synced)
        for operation in self.pending if choice != "none" else ():
            if operation.kind == "T":
                if choice != "some" or chance.random() < 0.5:
                    del left[operation.number :]
                    left.extend(bytes(operation.number - len(left)))
                continue
            end = operation.number + len(operation.data)
            left.extend(bytes(max(0, end - len(left))))
            if choice == "all":
                left[operation.number : end] = operation.data
            elif choice == "some":
                _tear(left, operation, chance)
        if choice == "some" and self.pending and chance.random() < 0.3:
            del left[chance.randint(len(self.synced), max(len(self.synced), len(left))) :]
        return bytes(left)


def _tear(left: bytearray, operation: Operation, chance: random.Random) -> None:
    """Write some sectors of ``operation``, and of one of them a part."""
    first, last = operation.number, operation.number + len(operation.data)
    kept = chance.choice((0.0, 0.5, 1.0))
    for sector in range(first // _SECTOR * _SECTOR, last, _SECTOR):
        begin, end = max(first, sector), min(last, sector + _SECTOR)
        if chance.random() < 0.2:
            end = chance.randint(begin, end)
        if chance.random() < kept:
            left[begin:end] = operation.data[begin - first : end - first]


class WeakDisk:
    """Files below ``root`` after some operations. ``ignore``: kinds of sync that do nothing, ``file`` or ``folder``."""

    def __init__(self, root: Path, ignore: str = "") -> None:
        self._root = str(root)
        self._ignore = ignore
        self._names: dict[str, _File] = {str(root): _File(folder=True)}
        self._synced_names: dict[str, _File] = dict(self._names)
        self._pending: list[tuple[str, _File | None]] = []

    def apply(self, operation: Operation) -> None:
        """Do one recorded operation."""
        kind, path = operation.kind, operation.path
        if kind in "CM":
            self._name(path, _File(folder=kind == "M"))
        elif kind in "WT":
            self._names[path].pending.append(operation)
        elif kind == "R":
            self._name(operation.data.decode(), self._names[path])
            self._name(path, None)
        elif kind == "U":
            self._name(path, None)
        elif self._names[path].folder:
            self._sync_folder(path)
        elif self._ignore != "file":
            file = self._names[path]
            file.synced, file.pending = file.content(random.Random(0), "all"), []

    def _name(self, path: str, file: _File | None) -> None:
        if file is None:
            self._names.pop(path, None)
        else:
            self._names[path] = file
        self._pending.append((path, file))

    def _sync_folder(self, folder: str) -> None:
        if self._ignore == "folder":
            return
        later = []
        for path, file in self._pending:
            if str(Path(path).parent) == folder:
                _set(self._synced_names, path, file)
            else:
                later.append((path, file))
        self._pending = later

    def images(self, seed: int, count: int) -> Iterator[dict[str, bytes | None]]:
        """What may be there after power loss, None for a folder: everything, the least, and ``count`` in between."""
        chance = random.Random(seed)
        cases = [("all", len(self._pending)), ("none", 0), ("zeros", len(self._pending))]
        cases += [("some", chance.randint(0, len(self._pending))) for _ in range(count)]
        for choice, names in cases:
            there = dict(self._synced_names)
            for path, file in self._pending[:names]:
                _set(there, path, file)
            reached = {path: file for path, file in there.items() if self._is_reached(path, there)}
            yield {path: None if file.folder else file.content(chance, choice) for path, file in reached.items()}

    def _is_reached(self, path: str, there: dict[str, _File]) -> bool:
        return path == self._root or (
            str(Path(path).parent) in there and self._is_reached(str(Path(path).parent), there)
        )


def _set(names: dict[str, _File], path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def put(image: dict[str, bytes | None], root: Path, target: Path) -> None:
    """Make the files of ``image``, recorded below ``root``, below ``target``, and nothing else."""
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(image):
        place, content = target / Path(path).relative_to(root), image[path]
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.write_bytes(content)


def split_notes(operations: Sequence[Operation], notes: str) -> Iterator[Operation | str]:
    """The operations, with what was written to the file named ``notes`` as text in between."""
    for operation in operations:
        if Path(operation.path).name != notes:
            yield operation
        elif operation.kind == "W":
            yield operation.data.decode().strip()
