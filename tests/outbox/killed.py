"""``python killed.py FOLDER KILLS SEED``: kills a process in the middle of its outbox, again and again.

A worker, forked for each kill, keeps events, says which are durable, takes some and says which, until it is killed
after a random time. Then the outbox is opened as by a restart, and what is in it is held against what was said. Prints
one JSON object.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from outbox_rig import Box, event

_LONGEST_S = 0.03


def work(folder: Path, first: int, say: int) -> None:
    """Until killed. A line says ``k`` (durable), or ``g`` (the sink has it), and the number of an event."""
    box = Box(folder, max_bytes="10MB")
    numbers = itertools.count(first)
    for turn in itertools.count():
        given = [next(numbers) for _ in range(1 + turn % 7)]
        box.keep(*(event(number, size=100 + number % 900) for number in given))
        os.write(say, "".join(f"k{number}\n" for number in given).encode())
        if turn % 2:
            items = box.fetch(8)
            os.write(say, "".join(f"g{int(item.event.id[1:])}\n" for item in items).encode())
            box.outbox.delivered(items)
            box.outbox.settle()


def run_and_kill(folder: Path, first: int, after_s: float) -> tuple[list[int], list[int]]:
    """Events said to be durable, and those the sink has."""
    read, write = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            work(folder, first, write)
        finally:
            os._exit(1)
    os.close(write)
    time.sleep(after_s)
    os.kill(worker, signal.SIGKILL)
    with os.fdopen(read) as said:
        lines = said.read().split("\n")[:-1]
    _, status = os.waitpid(worker, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("the worker ended by itself")
    kept, gone = ([int(line[1:]) for line in lines if line[0] == what] for what in "kg")
    return kept, gone


def main(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    durable: set[int] = set()
    told: set[int] = set()
    lost, again, disorder, damaged, events, first = 0, 0, 0, 0, 0, 0
    for _ in range(kills):
        kept, gone = run_and_kill(folder, first, chance.uniform(0.0, _LONGEST_S))
        durable.update(kept)
        told.update(gone)
        events += len(kept)
        box = Box(folder, max_bytes="10MB")
        there = [int(name[1:]) for name in box.late()]
        lost += len(durable - told - set(there))
        again = max(again, len(told & set(there)))
        disorder += there != sorted(set(there))
        damaged += box.outbox.dropped.total()
        durable &= set(there)
        box.outbox.close()
        first = max([first, *(number + 1 for number in there), *(number + 1 for number in (*kept, *gone))])
    answer = {"kills": kills, "events": events, "lost": lost, "most_again": again, "disorder": disorder}
    print(json.dumps({**answer, "damaged": damaged}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
