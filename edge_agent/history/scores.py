"""Sampled scores as compressed blocks: how much the plant stood out, and which sensors did most.

Of each stretch of time the tick that stood out most is kept, so that what was short is not missed. A block is packed
as readings are (:mod:`edge_agent.history.readings`); columns are score, p-value, places and scores of the top sensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_agent.clock import NS_PER_S
from edge_agent.errors import StoreError
from edge_agent.history.readings import ReadingRows, decode, encode, layout_id
from edge_agent.options import Duration, Options
from edge_agent.verdict import Scores

_MOST_ROWS = 20_000
_NAN = float("nan")


class ScoresOptions(Options):
    """Scores kept to look back at; off unless ``every`` is given."""

    every: Duration | None = Field(
        default=None,
        gt=0,
        description="Keep the scores of one tick in each such stretch of time: the tick that stood out most. Default: "
        "they are not kept.",
    )
    top: int = Field(default=5, ge=1, le=50, description="Sensors kept with their score, those that stood out most.")
    block: Duration = Field(
        default=3600.0,
        gt=0,
        le=86_400,
        description="Scores are written together once in this time, which spares the card; those not written yet are "
        "lost with the power.",
    )


@dataclass(frozen=True, slots=True)
class ScoreRows:
    """Scores of T ticks. ``score``, ``p_value`` [T]: of the plant, NaN where unknown. ``alarm`` [T]: a process incident
    was open. ``top`` [T, K]: places in ``sensors`` of those that stood out most, the most first, -1 for none;
    ``top_score`` [T, K]: their scores, NaN for none."""

    sensors: tuple[str, ...]
    time_ns: NDArray[np.int64]
    score: NDArray[np.float32]
    p_value: NDArray[np.float32]
    alarm: NDArray[np.bool_]
    top: NDArray[np.int64]
    top_score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def layout(self) -> str:
        """Name of this list of sensors."""
        return layout_id(self.sensors)


@dataclass(frozen=True, slots=True)
class _Row:
    time_ns: int
    score: float
    p_value: float
    alarm: bool
    top: NDArray[np.int64]
    top_score: NDArray[np.float32]


class ScoreSampler:
    """Sees every tick and gives out blocks of rows."""

    def __init__(self, options: ScoresOptions, every_s: float) -> None:
        self._every_ns = round(every_s * NS_PER_S)
        self._block_ns = round(options.block * NS_PER_S)
        self._most = options.top
        self._slot = -1
        self._sensors: tuple[str, ...] = ()
        self._best: _Row | None = None
        self._rows: list[_Row] = []

    def take(
        self,
        time_ns: int,
        sensors: tuple[str, ...],
        scores: Scores,
        plant: float | None,
        p_value: float | None,
        *,
        alarm: bool,
    ) -> ScoreRows | None:
        """See one tick; a block when one is full, or the sensors have changed."""
        slot = time_ns // self._every_ns
        if slot != self._slot or sensors != self._sensors:
            self._keep_best()
        full = self.finish() if self._must_end(time_ns, sensors) else None
        self._slot, self._sensors = slot, sensors
        figures = _NAN if plant is None else plant, _NAN if p_value is None else p_value
        if self._best is None or _stands_out(*figures, self._best):
            self._best = _Row(time_ns, *figures, alarm, *_top(scores, self._most))
        return full

    def finish(self) -> ScoreRows | None:
        """The rows since the last block, if any."""
        self._keep_best()
        if not self._rows:
            return None
        rows, self._rows = self._rows, []
        return ScoreRows(
            self._sensors,
            np.array([row.time_ns for row in rows], np.int64),
            np.array([row.score for row in rows], np.float32),
            np.array([row.p_value for row in rows], np.float32),
            np.array([row.alarm for row in rows], np.bool_),
            np.stack([row.top for row in rows]),
            np.stack([row.top_score for row in rows]),
        )

    def _keep_best(self) -> None:
        if self._best is not None:
            self._rows.append(self._best)
            self._best = None

    def _must_end(self, time_ns: int, sensors: tuple[str, ...]) -> bool:
        if not self._rows:
            return False
        # A clock that was set back ends a block too: times within one only grow.
        in_time = self._rows[-1].time_ns < time_ns < self._rows[0].time_ns + self._block_ns
        return not in_time or sensors != self._sensors or len(self._rows) >= _MOST_ROWS


def _stands_out(score: float, p_value: float, other: _Row) -> bool:
    """More than ``other``: less likely, or, while nothing is calibrated, further from what is usual."""
    if math.isnan(p_value) or math.isnan(other.p_value):
        return math.isnan(other.p_value) and (not math.isnan(p_value) or score > other.score)
    return p_value < other.p_value


def _top(scores: Scores, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    known = np.where(scores.valid, scores.score, -np.inf)
    found = np.argsort(-known, kind="stable")[:most]
    found = found[np.isfinite(known[found])]
    top, top_score = np.full(most, -1, np.int64), np.full(most, np.nan, np.float32)
    top[: len(found)], top_score[: len(found)] = found, known[found]
    return top, top_score


def encode_scores(rows: ScoreRows) -> bytes:
    """The compressed block, without the sensors' names."""
    places = np.where(rows.top < 0, np.nan, rows.top).astype(np.float32)  # exact below 16 million
    values = np.column_stack([rows.score, rows.p_value, places, rows.top_score]).astype(np.float32)
    most = rows.top.shape[1]
    return bytes([most]) + encode(ReadingRows(("",) * (2 + 2 * most), rows.time_ns, values, rows.alarm))


def decode_scores(body: bytes, sensors: tuple[str, ...], count: int) -> ScoreRows:
    """What :func:`encode_scores` was given. :raises StoreError: it is damaged."""
    most = body[0] if body else 0
    if not most:
        raise StoreError("a block of scores is damaged: it is empty")
    rows = decode(body[1:], ("",) * (2 + 2 * most), count)
    places, top_score = rows.values[:, 2 : 2 + most], rows.values[:, 2 + most :]
    top = np.where(np.isnan(places), -1, places).astype(np.int64)
    if top.size and int(top.max()) >= len(sensors):
        raise StoreError(f"a block of scores is damaged: sensor {int(top.max())} of {len(sensors)}")
    return ScoreRows(sensors, rows.time_ns, rows.values[:, 0], rows.values[:, 1], rows.alarm, top, top_score)
