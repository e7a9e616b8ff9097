"""Changes of many files as one: all prepared beside, then moved into place in an order, resumed after a crash.

A reader (web server, mirror) sees at every moment either what was, or files that nothing refers to yet: targets come
first, then metadata with its version in the name, ``timestamp.json`` last. Until ``journal.json`` is durable nothing
has happened; from then on the change happens, if need be by the next process that opens the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.durable import make_folder, replace_durably, sync_folder, write_durably
from edge_agent.errors import OtaError

_STAGING = ".staging"
_JOURNAL = "journal.json"
_LOCK = ".lock"
_PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class Put:
    """A file to be put in place, by its path relative to the folder. ``content``: None removes it.

    ``append``: the content, one line, is added at the file's end instead, once.
    """

    path: str
    content: bytes | None
    append: bool = False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other publisher out. The system gives the lock back when its holder dies.

    :raises OtaError: reason ``busy``, another process holds it; ``disk``, the system does not let us read or write.
    """
    with naming(folder), open(folder / _LOCK, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OtaError("busy", f"{folder}: another publisher is at work; try again when it is done") from error
        recover(folder)
        yield


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Turn what the system says of ``folder`` and what is in it into our error."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise OtaError(
            "disk", f"{where}: {error.strerror or error}; make room or give leave, then try again"
        ) from error


def apply(folder: Path, puts: Sequence[Put]) -> None:
    """Do all of ``puts``, in their order; all of them or, when it is cut off before they are prepared, none."""
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    make_folder(staging)
    steps = []
    for number, put in enumerate(puts):
        digest = None
        if put.content is not None:
            write_durably(staging / str(number), put.content)
            os.chmod(staging / str(number), _PUBLIC)
            digest = hashlib.sha256(put.content).hexdigest()
        steps.append({"path": put.path, "sha256": digest, "append": put.append})
    sync_folder(staging)
    replace_durably(staging / _JOURNAL, json.dumps(steps).encode())
    recover(folder)


def recover(folder: Path) -> bool:
    """Finish a change that was cut off, or forget it when it was not prepared yet. True: one was finished."""
    staging = folder / _STAGING
    journal = staging / _JOURNAL
    if not journal.exists():
        shutil.rmtree(staging, ignore_errors=True)
        return False
    for number, step in enumerate(json.loads(journal.read_bytes())):
        if step["append"]:
            _append(staging / str(number), folder / step["path"])
        else:
            _move(staging / str(number), folder / step["path"], step["sha256"])
    journal.unlink()
    sync_folder(staging)
    shutil.rmtree(staging)
    return True


def _move(prepared: Path, target: Path, digest: str | None) -> None:
    if digest is None:
        target.unlink(missing_ok=True)
        if target.parent.is_dir():
            sync_folder(target.parent)
        return
    make_folder(target.parent)
    if prepared.exists():
        prepared.replace(target)
    elif not target.exists() or hashlib.sha256(target.read_bytes()).hexdigest() != digest:
        raise OtaError("damaged", f"{target}: a change was cut off and its prepared file is gone; take a back-up")
    sync_folder(target.parent)


def _append(prepared: Path, target: Path) -> None:
    line = prepared.read_bytes()
    with open(target, "a+b") as file:
        file.seek(0)
        whole = file.read()
        complete = whole[: whole.rfind(b"\n") + 1]
        if complete.endswith(line) and len(whole) == len(complete):
            return
        file.truncate(len(complete))  # a line that was cut off by the crash that this is the recovery of
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(target.parent)
