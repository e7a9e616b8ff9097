"""The reservoir of earlier training: drawn evenly, kept beside the bundle, read for other sensors."""

import numpy as np
import pytest

from edge_agent.errors import DataFileError
from edge_models import rehearsal
from edge_models.rehearsal import Segment

NAMES = ("a", "b")


def readings(rows, regime):
    return np.full((rows, 2), float(regime)) + np.arange(rows)[:, None] / 1e4


def test_without_a_file_nothing_is_rehearsed(tmp_path):
    assert rehearsal.load(rehearsal.beside(tmp_path / "site"), NAMES) == []


def test_what_is_saved_is_read_again(tmp_path):
    path = rehearsal.beside(tmp_path / "site")
    assert path.name == "site.rehearsal.parquet"
    segments = [Segment(0, readings(256, 1)), Segment(2, readings(100, 2))]
    rehearsal.save(path, NAMES, segments)
    again = rehearsal.load(path, NAMES)
    assert [segment.generation for segment in again] == [0, 2]
    for segment, other in zip(segments, again, strict=True):
        np.testing.assert_allclose(segment.values, other.values, rtol=1e-6)


def test_sensors_are_matched_by_name(tmp_path):
    path = tmp_path / "r.parquet"
    rehearsal.save(path, NAMES, [Segment(0, readings(20, 1) * [1.0, 2.0])])
    (segment,) = rehearsal.load(path, ("new", "b"))
    assert np.isnan(segment.values[:, 0]).all()
    np.testing.assert_allclose(segment.values[:, 1], 2 * readings(20, 1)[:, 1], rtol=1e-6)
    with pytest.raises(DataFileError, match="knows none of the sensors"):
        rehearsal.load(path, ("x",))


def test_every_generation_keeps_an_equal_share():
    kept = []
    for regime in range(4):
        kept = rehearsal.drawn(kept, [readings(4000, regime)], seed=regime)
        assert len(kept) <= 12
    counts = [sum(segment.generation == number for segment in kept) for number in range(4)]
    assert counts == [3, 3, 3, 3]
    assert all(int(segment.values[0, 0]) == segment.generation for segment in kept)


def test_the_reservoir_stays_bounded_over_many_generations():
    kept = []
    for regime in range(40):
        kept = rehearsal.drawn(kept, [readings(600, regime)], seed=0)
    assert len(kept) <= 12
    assert kept[-1].generation == 39


def test_segments_do_not_cross_parts():
    parts = [readings(300, 1), readings(10, 2), readings(500, 3)]
    for segment in rehearsal.drawn([], parts, seed=3):
        assert len({int(value) for value in segment.values[:, 0]}) == 1


def test_what_the_history_still_holds_is_not_rehearsed():
    old, present = Segment(0, readings(20, 1)), Segment(1, readings(20, 2))
    assert rehearsal.gone([old, present], readings(500, 2)) == [old]


def test_a_short_history_gives_short_segments():
    kept = rehearsal.drawn([], [readings(480, 1)], seed=0)
    assert sum(len(segment.values) for segment in kept) <= 480 / 4
