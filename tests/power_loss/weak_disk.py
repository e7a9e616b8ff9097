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
from fnmatch import fnmatch
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
    """A file or folder, whatever its name is just now. ``names``: what a folder has, ``synced_names``: for sure."""

    synced: bytes = b""
    pending: list[Operation] = field(default_factory=list)
    folder: bool = False
    names: dict[str, _File] = field(default_factory=dict)
    synced_names: dict[str, _File] = field(default_factory=dict)

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
    """Files below ``root`` after some operations.

    ``ignore``: syncs that do nothing: ``file`` or ``folder``, or those of them whose path a pattern fits
    (``file:*/models/*``); several with commas between them.
    """

    def __init__(self, root: Path, ignore: str = "") -> None:
        self._root_path = str(root)
        self._ignore = [
            (kind, pattern or "*") for kind, _, pattern in (rule.partition(":") for rule in ignore.split(","))
        ]
        self._root = _File(folder=True)
        self._pending: list[tuple[_File, str, _File | None]] = []

    def apply(self, operation: Operation) -> None:
        """Do one recorded operation."""
        kind, path = operation.kind, operation.path
        if kind in "CM":
            self._name(path, _File(folder=kind == "M"))
        elif kind in "WT":
            self._at(path).pending.append(operation)
        elif kind == "R":
            file = self._at(path)
            self._name(operation.data.decode(), file)
            self._name(path, None)
        elif kind == "U":
            self._name(path, None)
        else:
            self._sync(path, self._at(path))

    def _at(self, path: str) -> _File:
        file = self._root
        for name in Path(path).relative_to(self._root_path).parts:
            file = file.names[name]
        return file

    def _name(self, path: str, file: _File | None) -> None:
        folder, name = self._at(str(Path(path).parent)), Path(path).name
        _set(folder.names, name, file)
        self._pending.append((folder, name, file))

    def _sync(self, path: str, file: _File) -> None:
        kind = "folder" if file.folder else "file"
        if any(ignored == kind and fnmatch(path, pattern) for ignored, pattern in self._ignore):
            return
        if not file.folder:
            file.synced, file.pending = file.content(random.Random(0), "all"), []
            return
        for folder, name, there in self._pending:
            if folder is file:
                _set(file.synced_names, name, there)
        self._pending = [entry for entry in self._pending if entry[0] is not file]

    def images(self, seed: int, count: int) -> Iterator[dict[str, bytes | None]]:
        """What may be there after power loss, None for a folder: everything, the least, and ``count`` in between."""
        chance = random.Random(seed)
        cases = [("all", len(self._pending)), ("none", 0), ("zeros", len(self._pending))]
        cases += [("some", chance.randint(0, len(self._pending))) for _ in range(count)]
        for choice, names in cases:
            image: dict[str, bytes | None] = {}
            self._reach(self._root_path, self._root, self._pending[:names], chance, choice, image)
            yield image

    def _reach(
        self,
        path: str,
        file: _File,
        named: Sequence[tuple[_File, str, _File | None]],
        chance: random.Random,
        choice: str,
        image: dict[str, bytes | None],
    ) -> None:
        if not file.folder:
            image[path] = file.content(chance, choice)
            return
        image[path] = None
        there = dict(file.synced_names)
        for folder, name, entry in named:
            if folder is file:
                _set(there, name, entry)
        for name, entry in there.items():
            self._reach(f"{path}/{name}", entry, named, chance, choice, image)


def _set(names: dict[str, _File], name: str, file: _File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


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
