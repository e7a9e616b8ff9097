"""Rehearsal: a few segments of what earlier models of a plant were trained on, trained on again with each new one.

A model tuned to a new regime of a plant forgets the old one, and cries wolf when the plant comes back to it. A small
reservoir of old segments prevents that (A. Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal", Connection
Science 7, 1995; measured in docs/drift.md). It lies beside the bundle as ``NAME.rehearsal.parquet``, never in it: a
gateway has no use for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_agent.recording import read_recording, write_table

Values = NDArray[np.float64]

SEGMENT = 256
_MOST_SEGMENTS = 12
_MOST_SHARE = 0.25  # of what was trained on: rehearsal must not outweigh what it is rehearsed with
_PER_GENERATION = 1_000  # numbers of segments of one generation, in the column that tells them apart


@dataclass(frozen=True, slots=True)
class Segment:
    """Normal readings [T, N] that the model of this generation (0 is the first) was trained on."""

    generation: int
    values: Values


def beside(bundle: Path) -> Path:
    """Where the reservoir of ``bundle`` lies."""
    return bundle.with_name(f"{bundle.name}.rehearsal.parquet")


def load(path: Path, sensors: Sequence[str]) -> list[Segment]:
    """The segments at ``path`` with the columns ``sensors``, NaN for those it does not know; none without a file.

    :raises DataFileError: it is damaged, or knows none of the sensors.
    """
    if not path.exists():
        return []
    kept = read_recording(path)
    if not set(kept.sensors) & set(sensors):
        raise DataFileError(f"{path}: knows none of the sensors of this history; remove it to train without rehearsal")
    values = np.full((len(kept), len(sensors)), np.nan)
    for column, name in enumerate(sensors):
        if name in kept.sensors:
            values[:, column] = kept.values[:, kept.sensors.index(name)]
    return [Segment(int(run or 0) // _PER_GENERATION, values[rows]) for run, rows in kept.runs()]


def gone(segments: Sequence[Segment], values: Values) -> list[Segment]:
    """The segments that ``values`` [T, N] no longer hold: what is still in the history is trained on anyway."""
    rows = {row.tobytes() for row in values.astype(np.float32)}
    return [segment for segment in segments if segment.values[0].astype(np.float32).tobytes() not in rows]


def drawn(old: Sequence[Segment], training: Sequence[Values], seed: int) -> list[Segment]:
    """The next reservoir: ``old`` segments and new ones from ``training``, as many of each generation."""
    generator = np.random.default_rng(seed)
    generation = 1 + max((segment.generation for segment in old), default=-1)
    known = sorted({segment.generation for segment in old})
    share = max(1, _MOST_SEGMENTS // (len(known) + 1))
    kept: list[Segment] = []
    for number in known[-(_MOST_SEGMENTS - 1) :]:
        mine = [segment for segment in old if segment.generation == number]
        kept += [mine[i] for i in sorted(generator.permutation(len(mine))[:share].tolist())]
    return [*kept, *(Segment(generation, values) for values in _spread(training, share, generator))]


def save(path: Path, sensors: Sequence[str], segments: Sequence[Segment]) -> None:
    """Write the reservoir. :raises DataFileError: it cannot be written."""
    numbers = [
        np.full(len(segment.values), segment.generation * _PER_GENERATION + at, np.int64)
        for at, segment in enumerate(segments)
    ]
    values = np.concatenate([segment.values for segment in segments]).astype(np.float32)
    columns = {name: values[:, column] for column, name in enumerate(sensors)}
    write_table(path, {"run": np.concatenate(numbers), **columns})


def _spread(parts: Sequence[Values], count: int, generator: np.random.Generator) -> list[Values]:
    """``count`` segments from random places of equal strata of all ``parts``; shorter where a part is."""
    rows = np.concatenate([np.full(len(part), at) for at, part in enumerate(parts)])
    begins = np.cumsum([0, *map(len, parts)])
    borders = np.linspace(0, len(rows), count + 1).astype(np.int64)
    length = min(SEGMENT, max(1, int(_MOST_SHARE * len(rows)) // count))
    found = []
    for low, high in pairwise(borders):
        start = int(generator.integers(low, max(low + 1, high - length + 1)))
        part = int(rows[start])
        found.append(parts[part][start - begins[part] :][:length])
    return found
