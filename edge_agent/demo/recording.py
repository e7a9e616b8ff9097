"""Recordings of the simulated plant for training and evaluation: arrays, or a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.demo.attacks import Injection
from edge_agent.demo.plant import Plant
from edge_agent.demo.tags import EDGES, INDEX, NAMES, TAGS


class Recording(NamedTuple):
    """What the gateway would have seen, and the truth about it; T ticks, N tags in the order of ``TAGS``.

    ``time``: seconds since the start of the recording [T]. ``values``: as reported, NaN where nothing was sent [T, N].
    ``labels``: True while an attack acts [T]. ``affected``: True for the tags it touches directly [T, N].
    """

    time: NDArray[np.float64]
    values: NDArray[np.float64]
    labels: NDArray[np.bool_]
    affected: NDArray[np.bool_]


SETTLE_S = 900.0
"""A new plant runs this long before it is recorded, so that nothing of its start is seen."""


def generate(
    seconds: float, seed: int, attacks: Sequence[Injection] = (), tick_s: float = 1.0, settle_s: float = SETTLE_S
) -> Recording:
    """Record the plant for ``seconds``; ``attacks`` start in seconds of the recording (see ``attacks.inject``).

    The label ends with the attack, though the plant may take minutes to find its rhythm again.
    """
    plant = Plant(np.random.default_rng(seed), tick_s)
    for _ in range(round(settle_s / tick_s)):
        plant.step()
    ticks = round(seconds / tick_s)
    zero_s = plant.seconds
    for attack in attacks:
        plant.schedule(Injection(attack.attack, zero_s + attack.start_s, attack.duration_s, attack.magnitude))
    values = np.empty((ticks, len(TAGS)))
    for tick in range(ticks):
        values[tick] = plant.step()
    time = np.arange(ticks, dtype=np.float64) * tick_s
    affected = np.zeros((ticks, len(TAGS)), dtype=np.bool_)
    for attack in attacks:
        during = (time >= attack.start_s) & (time < attack.end_s)
        for name in attack.attack.affected:
            affected[during, INDEX[name]] = True
    labels = np.logical_or.reduce(affected, axis=1)
    return Recording(time, values, labels, affected)


def write_csv(recording: Recording, path: Path, start_ns: int = 0) -> None:
    """Write ``timestamp, <tags>, label`` with one row a tick; nothing stands where nothing was sent.

    ``timestamp`` is RFC 3339 UTC, counted from ``start_ns`` (wall time).
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", *NAMES, "label"])
        times_ns = start_ns + np.rint(recording.time * 1e9).astype(np.int64)
        stamps = np.datetime_as_string(times_ns.astype("datetime64[ns]"), "ms")
        for stamp, row, label in zip(stamps, recording.values, recording.labels, strict=True):
            cells = ["" if value != value else f"{value:.7g}" for value in row.tolist()]
            writer.writerow([f"{stamp}Z", *cells, int(label)])


def edges_csv(path: Path) -> None:
    """Write the process graph as ``source,target`` rows, as ``edge-agent train --edges`` reads it."""
    path.write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in EDGES), encoding="utf-8")
