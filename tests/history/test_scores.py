"""Sampled scores: which ticks are kept, packed, stored and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_agent.clock import SystemClock
from edge_agent.errors import StoreError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.history import History, HistoryOptions
from edge_agent.history.archive import Between, opened
from edge_agent.history.scores import (
    ScoreRows,
    ScoreSampler,
    ScoresOptions,
    decode_scores,
    encode_scores,
)
from edge_agent.metrics import Metrics
from edge_agent.verdict import Scores

S = 1_000_000_000
NOW = 1_800_000_000 * S
SENSORS = ("level", "flow", "valve")
NAN = float("nan")


def scores(*values: float | None) -> Scores:
    valid = np.array([value is not None for value in values])
    known = np.array([0.0 if value is None else value for value in values], np.float32)
    zeros = np.zeros(len(values), np.float32)
    return Scores(
        known, zeros, zeros, valid, np.zeros((len(values), 1), np.int64), np.zeros((len(values), 1), np.float32)
    )


class Seen:
    """Ticks of one second given to a sampler."""

    def __init__(self, **given: Any) -> None:
        options = ScoresOptions.model_validate({"every": "10s", "top": 2, "block": "1m", **given})
        assert options.every is not None
        self.sampler = ScoreSampler(options, options.every)
        self.blocks: list[ScoreRows] = []

    def tick(
        self, second: int, p_value: float | None, *, plant: float = 0.0, sensors: tuple[str, ...] = SENSORS
    ) -> None:
        values = scores(*(float(place) for place in range(len(sensors))))
        block = self.sampler.take(NOW + second * S, sensors, values, plant, p_value, alarm=second == 3)
        if block is not None:
            self.blocks.append(block)

    def rows(self) -> list[ScoreRows]:
        rest = self.sampler.finish()
        return self.blocks + ([] if rest is None else [rest])

    def seconds(self) -> list[int]:
        return [int(second) for block in self.rows() for second in (block.time_ns - NOW) // S]


def test_of_each_stretch_the_tick_that_stands_out_most_is_kept() -> None:
    seen = Seen()
    for second in range(30):
        seen.tick(second, {3: 0.001, 17: 0.2, 25: 0.4}.get(second, 0.5))
    [block] = seen.rows()
    assert ((block.time_ns - NOW) // S).tolist() == [3, 17, 25]
    np.testing.assert_allclose(block.p_value, [0.001, 0.2, 0.4], rtol=1e-6)
    assert block.alarm.tolist() == [True, False, False]
    assert block.top.tolist() == [[2, 1]] * 3
    assert block.top_score.tolist() == [[2.0, 1.0]] * 3


def test_while_nothing_is_calibrated_the_highest_score_counts() -> None:
    seen = Seen()
    for second in range(10):
        seen.tick(second, None, plant=float(second == 6))
    seen.tick(10, None)
    seen.tick(11, 0.9)
    assert seen.seconds() == [6, 11]


def test_a_block_ends_with_its_time_its_sensors_and_a_clock_set_back() -> None:
    seen = Seen()
    for second in range(0, 200, 10):
        seen.tick(second, 0.5)
    assert [len(block) for block in seen.rows()] == [6, 6, 6, 2]
    seen = Seen()
    seen.tick(0, 0.5)
    seen.tick(10, 0.5, sensors=("level",))
    seen.tick(5, 0.5, sensors=("level",))
    assert [(block.sensors, len(block)) for block in seen.rows()] == [(SENSORS, 1), (("level",), 1), (("level",), 1)]


def test_sensors_without_a_score_are_not_among_the_top() -> None:
    sampler = ScoreSampler(ScoresOptions.model_validate({"every": "1s", "top": 3}), 1.0)
    sampler.take(NOW, SENSORS, scores(1.0, None, 4.0), None, None, alarm=False)
    block = sampler.finish()
    assert block is not None
    assert block.top.tolist() == [[2, 0, -1]]
    np.testing.assert_array_equal(block.top_score, [[4.0, 1.0, NAN]])
    assert np.isnan(block.score).all()


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_out_again(count: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    top = rng.integers(-1, 3, (count, most))
    block = ScoreRows(
        SENSORS,
        NOW + np.arange(count) * S,
        rng.normal(size=count).astype(np.float32),
        rng.random(count).astype(np.float32),
        rng.random(count) < 0.5,
        top,
        np.where(top < 0, NAN, 1.5).astype(np.float32),
    )
    again = decode_scores(encode_scores(block), SENSORS, count)
    for name in ("time_ns", "score", "p_value", "alarm", "top", "top_score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(block, name))


@pytest.mark.parametrize("body", [b"", b"\0", b"\x02rubbish"])
def test_damaged_blocks_are_refused(body: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        decode_scores(body, SENSORS, 1)


def test_a_sensor_that_the_block_does_not_know_is_damage() -> None:
    seen = Seen()
    seen.tick(0, 0.5)
    [block] = seen.rows()
    with pytest.raises(StoreError, match="sensor 2 of 1"):
        decode_scores(encode_scores(block), ("level",), 1)


def snapshot(second: int, values: NDArray[np.float64] | None = None) -> Snapshot:
    given = np.ones(3) if values is None else values
    n = len(given)
    names = SENSORS if values is None else tuple(f"s{place}" for place in range(n))
    zeros = np.zeros(n, np.float32)
    usable, none = np.ones(n, np.bool_), np.zeros((n, 1), np.int64)
    return Snapshot(second, NOW + second * S, 0, names, given, zeros, zeros.astype(np.int32), usable, none)


async def kept(path: Path, seconds: int, **options: Any) -> History:
    history = await History.open(path, HistoryOptions.model_validate(options), Metrics(), SystemClock())
    for second in range(seconds):
        history.observe(snapshot(second), alarm=False)
        history.observe_scores(snapshot(second), scores(1.0, 2.0, 3.0), 0.5, 0.25, alarm=False)
        if second % 30 == 29:
            await history.flush()
    return history


async def test_scores_are_off_by_default(tmp_path: Path) -> None:
    await (await kept(tmp_path / "history.db", 100)).close()
    with opened(tmp_path) as archive:
        assert list(archive.scores()) == []


async def test_scores_outlive_a_restart_and_are_found_by_time(tmp_path: Path) -> None:
    for _ in range(2):  # the second time the same stretch: it replaces the first
        history = await kept(tmp_path / "history.db", 100, scores={"every": "10s", "block": "30s"})
        await history.close()
    with opened(tmp_path) as archive:
        assert sum(len(rows) for rows in archive.scores()) == 10
        assert [len(rows) for rows in archive.scores(Between(NOW + 35 * S, NOW + 65 * S))] == [3, 3]
        assert archive.most_top() == 5
        assert archive.sensors("score") == SENSORS


async def test_readings_make_room_for_scores_and_never_the_other_way_round(tmp_path: Path) -> None:
    given = {
        "max_bytes": "1MB",
        "scores": {"every": "1s", "block": "20s"},
        "readings": {"every": "1s", "block": "10s"},
    }
    history = await History.open(
        tmp_path / "history.db", HistoryOptions.model_validate(given), Metrics(), SystemClock()
    )
    rng = np.random.default_rng(0)
    for second in range(400):
        history.observe(snapshot(second, rng.normal(size=1_000)), alarm=False)  # 4 kB that cannot be compressed
        history.observe_scores(snapshot(second), scores(1.0, 2.0, 3.0), 0.5, 0.25, alarm=False)
        if second % 30 == 29:
            await history.flush()
    await history.close()
    with opened(tmp_path) as archive:
        assert sum(len(rows) for rows in archive.scores()) == 400
        assert 0 < sum(len(rows) for rows in archive.readings()) < 400


async def test_what_is_older_than_wanted_goes_without_any_incident(tmp_path: Path) -> None:
    options = {
        "retention": "1d",
        "scores": {"every": "1s", "block": "10s"},
        "readings": {"every": "1s", "block": "10s"},
    }
    await (await kept(tmp_path / "history.db", 100, **options)).close()
    with opened(tmp_path) as archive:  # they are labelled with 2027, which has not come: nothing is old
        assert sum(len(rows) for rows in archive.scores()) == 100
    clock = SystemClock()
    clock.wall_ns = lambda: NOW + 2 * 86_400 * S  # type: ignore[method-assign]
    history = await History.open(tmp_path / "history.db", HistoryOptions.model_validate(options), Metrics(), clock)
    later = 3 * 86_400
    history.observe(snapshot(later), alarm=False)
    await history.close()
    with opened(tmp_path) as archive:
        assert [len(rows) for rows in archive.readings()] == [1]
        assert list(archive.scores()) == []


@pytest.mark.parametrize("given", [{"every": "0s"}, {"top": 0}, {"top": 51}, {"block": "2d"}])
def test_options_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScoresOptions.model_validate(given)
