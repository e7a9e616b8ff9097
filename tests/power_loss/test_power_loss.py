"""Power lost at every moment, on a disk that keeps no more than it has to: what was said to be kept is there."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scenarios import OPTIONS, T0
from weak_disk import Operation, WeakDisk, put, read_log, split_notes

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.history import StateFile
from edge_agent.history.store import RingStore
from edge_agent.outbox import Outbox

pytestmark = pytest.mark.counterpart
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(HERE / "recorder.c"), "-ldl"], check=True)
    return library


def recorded(recorder: Path, folder: Path, scenario: str) -> list[Operation | str]:
    """Operations of ``scenario`` and its notes, in their order."""
    root, log = folder / "root", folder / "log"
    root.mkdir()
    environ = {**os.environ, "LD_PRELOAD": str(recorder), "RECORD_ROOT": str(root), "RECORD_LOG": str(log)}
    subprocess.run([sys.executable, str(HERE / "scenarios.py"), scenario, str(root)], env=environ, check=True)
    return list(split_notes(read_log(log), "notes"))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where a sync costs nothing."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@dataclass
class Promised:
    """What the notes say up to a moment."""

    kept: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)

    def add(self, note: str) -> None:
        what, name = note.split()
        if what == "kept":
            self.kept.append(name)
        else:
            self.gone.add(name)


def found_in_outbox(folder: Path) -> list[str]:
    box = Outbox("desk", folder / "data" / "outbox" / "desk", OPTIONS, VirtualClock(T0 + 1000 * NS_PER_S))
    box.open()
    found: list[str] = []
    while items := box.fetch(50, box.turn):
        found += [item.event.id for item in items]
        box.delivered(items)
    box.settle()
    assert box.late == 0
    box.close()
    return found


def found_in_history(folder: Path) -> list[str]:
    with closing(RingStore(folder / "history.db", 1_000_000)) as store:
        rows = sqlite3.connect(folder / "history.db")
        with closing(rows):
            (state,) = rows.execute("PRAGMA integrity_check").fetchone()
            assert state == "ok"
            found = [name for table in ("incident", "event") for (name,) in rows.execute(f"SELECT id FROM {table}")]
        assert store.events(1, 0) is not None
    return found


def found_in_state(folder: Path) -> list[str]:
    saved = StateFile(folder / "data" / "learned").load()
    newest = -1 if saved is None else int(saved[:3])
    return [f"{number:03d}" for number in range(newest + 1)]


def losses(
    operations: list[Operation | str], folder: Path, find: Callable[[Path], list[str]], ignore: str = ""
) -> Iterator[tuple[int, list[str], list[str]]]:
    """For every moment and what may be left then: the moment, what is there, and what is missing of the promised."""
    disk, promised, target = WeakDisk(folder / "root", ignore), Promised(), folder / "left"
    for moment, step in enumerate(operations):
        if isinstance(step, str):
            promised.add(step)
            continue
        disk.apply(step)
        for image in disk.images(moment, 3):
            put(image, folder / "root", target)
            found = find(target)
            yield moment, found, [name for name in promised.kept if name not in promised.gone and name not in found]


FIND = {"outbox": found_in_outbox, "history": found_in_history, "state": found_in_state}


@pytest.mark.parametrize("scenario", FIND)
def test_what_was_said_to_be_kept_is_there(recorder: Path, memory: Path, scenario: str) -> None:
    operations, images = recorded(recorder, memory, scenario), 0
    for moment, _, missing in losses(operations, memory, FIND[scenario]):
        assert missing == [], f"power lost after {operations[moment]}"
        images += 1
    assert images > 200


@pytest.mark.parametrize("ignored", ["file", "folder"])
@pytest.mark.parametrize("scenario", FIND)
def test_without_a_sync_it_would_be_lost(recorder: Path, memory: Path, scenario: str, ignored: str) -> None:
    operations = recorded(recorder, memory, scenario)
    with suppress(sqlite3.DatabaseError):  # not to be opened any more is as good as lost
        assert any(missing for _, _, missing in losses(operations, memory, FIND[scenario], ignored))


def test_what_the_sink_has_is_seldom_delivered_again(recorder: Path, memory: Path) -> None:
    operations, again = recorded(recorder, memory, "outbox"), []
    gone = [
        (moment, step.split()[1]) for moment, step in enumerate(operations) if isinstance(step, str) and "gone" in step
    ]
    for moment, found, _ in losses(operations, memory, found_in_outbox):
        assert found == sorted(set(found))
        again.append(len(set(found) & {name for at, name in gone if at < moment}))
    assert max(again) <= 20
