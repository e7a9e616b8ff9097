"""What every detector must do, whatever runs inside it."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import psutil
import pytest
from bundle_factory import ring
from ticks import NAMES, noise, tick

from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference import Detector, StatisticalDetector
from edge_agent.verdict import Scores

NewDetector = Callable[[], Detector]


def arrays(value: Scores | Snapshot) -> dict[str, np.ndarray]:
    return {f.name: getattr(value, f.name) for f in fields(value) if isinstance(getattr(value, f.name), np.ndarray)}


def score_all(detector: Detector, ticks: Iterable[Snapshot]) -> list[Scores]:
    return [detector.score(snapshot) for snapshot in ticks]


def assert_same_bits(found: Iterable[Scores], expected: Iterable[Scores]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name, array in arrays(one).items():
            assert np.array_equal(array, arrays(other)[name]), name


def test_input_is_not_changed(new_detector: NewDetector) -> None:
    detector = new_detector()
    for snapshot in noise(30):
        before = copy.deepcopy(arrays(snapshot))
        for array in arrays(snapshot).values():
            array.flags.writeable = False
        detector.score(snapshot)
        assert all(np.array_equal(array, before[name]) for name, array in arrays(snapshot).items())


def test_shapes_and_types_are_those_of_the_contract(new_detector: NewDetector) -> None:
    scores = new_detector().score(tick(20.0))
    for name, array in arrays(scores).items():
        dtype = {"valid": np.bool_, "neighbour": np.int64}.get(name, np.float32)
        shape = (8, 3) if name in {"neighbour", "attention"} else (8,)
        assert (array.dtype, array.shape) == (dtype, shape), name


def test_nothing_is_valid_until_a_sensor_has_been_seen_for_the_warmup(new_detector: NewDetector) -> None:
    detector = new_detector()
    found = score_all(detector, noise(detector.warmup_ticks + 5))
    for scores in found[: detector.warmup_ticks]:
        assert not scores.valid.any()
        assert not scores.score.any()
    assert all(scores.valid.all() for scores in found[detector.warmup_ticks :])


def test_missing_sensor_has_no_score_and_others_go_on(new_detector: NewDetector) -> None:
    detector = new_detector()
    score_all(detector, noise(60))
    usable = np.arange(8) != 2
    scores = detector.score(tick(np.where(usable, 20.0, np.nan), usable=usable))
    assert scores.valid.tolist() == usable.tolist()
    assert scores.score[2] == 0.0
    assert all(np.isfinite(array).all() for array in arrays(scores).values())


def test_score_is_about_one_on_normal_data_and_far_above_on_a_spike(new_detector: NewDetector) -> None:
    detector = new_detector()
    found = score_all(detector, noise(1_000))
    normal = np.mean([scores.score for scores in found[200:]])
    assert 0.5 < normal < 2.0
    spike = detector.score(tick(np.where(np.arange(8) == 7, 40.0, 20.0)))
    assert spike.score[7] > 8.0
    assert spike.score.argmax() == 7
    assert abs(spike.expected[7] - 20.0) < 3.0


def test_same_ticks_give_the_same_bits_and_reset_starts_over(new_detector: NewDetector) -> None:
    detector = new_detector()
    first = score_all(detector, noise(80))
    assert_same_bits(score_all(new_detector(), noise(80)), first)
    detector.reset()
    assert_same_bits(score_all(detector, noise(80)), first)


def test_results_are_the_callers_to_keep(new_detector: NewDetector) -> None:
    detector = new_detector()
    kept = score_all(detector, noise(60))
    copies = copy.deepcopy(kept)
    score_all(detector, noise(30, seed=1))
    score_all(detector, noise(30, NAMES[:3], topology=1))
    assert_same_bits(kept, copies)


def test_order_of_sensors_does_not_matter(new_detector: NewDetector) -> None:
    order = np.random.default_rng(3).permutation(8)
    place = np.argsort(order)
    neighbour = ring(8)
    moved = np.where(neighbour[order] >= 0, place[neighbour[order]], -1)
    names = tuple(NAMES[row] for row in order)
    expected = score_all(new_detector(), noise(60, neighbour=neighbour))
    shuffled = (tick(s.value[order], names, s.tick, neighbour=moved) for s in noise(60))
    found = score_all(new_detector(), shuffled)
    for one, other in zip(found, expected, strict=True):
        for name in ("score", "expected", "scale", "valid", "attention"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name)[order], rtol=1e-5, atol=1e-5)


def test_state_follows_the_sensor_when_others_appear_leave_and_change_place(new_detector: NewDetector) -> None:
    alone, joined = new_detector(), new_detector()
    for number, snapshot in enumerate(noise(120, NAMES[:2], neighbour=np.full((2, 3), -1))):
        expected = alone.score(snapshot)
        a, b = snapshot.value
        names, value = (
            (("s0", "s1"), (a, b)),
            (("s1", "new", "s0"), (b, 5.0, a)),
            (("new", "s1", "s0"), (5.0, b, a)),
            (("s0", "s1"), (a, b)),
        )[number // 30]
        none = np.full((len(names), 3), -1)
        found = joined.score(tick(value, names, number, topology=number // 30, neighbour=none))
        rows = [names.index("s0"), names.index("s1")]
        np.testing.assert_allclose(found.score[rows], expected.score, rtol=1e-5, atol=1e-6)
        assert found.valid[rows].tolist() == expected.valid.tolist()


def test_sensor_that_comes_back_after_leaving_warms_up_again(new_detector: NewDetector) -> None:
    detector = new_detector()
    score_all(detector, noise(60))
    score_all(detector, noise(2, NAMES[1:], topology=1))
    scores = detector.score(tick(20.0, topology=2))
    assert scores.valid.tolist() == [False, *[True] * 7]


def test_another_graph_with_the_same_topology_number_is_noticed(new_detector: NewDetector) -> None:
    detector = new_detector()
    score_all(detector, noise(30))
    scores = detector.score(tick(20.0, NAMES[4:]))
    assert len(scores.score) == 4


@pytest.mark.parametrize("width", [0, 1, 3, 9])
def test_any_number_of_neighbours_is_cut_or_padded(new_detector: NewDetector, width: int) -> None:
    given = ring(8, width) if width else np.zeros((8, 0), np.int64)
    scores = new_detector().score(tick(20.0, neighbour=given))
    expected = np.full((8, 3), -1)
    expected[:, : min(width, 3)] = given[:, :3]
    assert np.array_equal(scores.neighbour, expected)


def test_neighbour_that_is_no_sensor_counts_as_none(new_detector: NewDetector) -> None:
    scores = new_detector().score(tick(20.0, neighbour=np.full((8, 3), 8)))
    assert (scores.neighbour == -1).all()
    assert not scores.attention.any()


def test_attention_of_a_sensor_sums_to_one_or_nothing(new_detector: NewDetector) -> None:
    sums = new_detector().score(tick(20.0)).attention.sum(axis=1)
    assert np.all((sums == 0) | (np.abs(sums - 1) < 1e-6))


def test_no_sensors_give_empty_scores_and_state_is_ready_for_the_first(new_detector: NewDetector) -> None:
    detector = new_detector()
    empty = detector.score(tick((), (), neighbour=np.zeros((0, 3), np.int64)))
    assert {len(array) for array in arrays(empty).values()} == {0}
    assert len(detector.score(tick(1.0, topology=1)).score) == 8


HOSTILE: list[dict[str, Any]] = [
    {"value": 1e308},
    {"value": -1e308},
    {"value": 5e-324},
    {"value": np.nan},
    {"value": np.inf},
    {"value": -0.0},
    {"value": np.where(np.arange(8) % 2, 1e308, -1e308)},
    {"value": 20.0, "age": np.full(8, 3e38, np.float32)},
    {"value": 20.0, "age": np.full(8, np.inf, np.float32)},
    {"value": 20.0, "age": np.full(8, np.nan, np.float32)},
    {"value": 20.0, "quality": np.full(8, 2**31 - 1, np.int32)},
    {"value": np.nan, "usable": np.zeros(8, np.bool_), "age": np.full(8, np.inf, np.float32)},
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
@pytest.mark.parametrize("before", [0, 60])
def test_hostile_ticks_give_finite_scores_and_leave_a_working_state(
    new_detector: NewDetector, hostile: dict[str, Any], before: int
) -> None:
    detector = new_detector()
    score_all(detector, noise(before))
    found = score_all(detector, [tick(**hostile)] * 5 + list(noise(40, seed=2)))
    for scores in found:
        assert all(np.isfinite(array).all() for array in arrays(scores).values())
        assert (scores.score >= 0).all()
        assert not scores.score[~scores.valid].any()
    assert found[-1].valid.all()


def test_memory_is_bounded_by_the_sensors_that_are_there(new_detector: NewDetector) -> None:
    process = psutil.Process()
    detector = new_detector()

    def churn(topologies: range) -> int:
        for topology in topologies:
            names = tuple(f"{topology}-{row}" for row in range(1_000))
            detector.score(tick(20.0, names, topology=topology))
        return int(process.memory_info().rss)

    before = churn(range(100))
    # What is carried for 1,000 sensors is at least 48 kB: keeping it for those that left would be 19 MB.
    assert churn(range(100, 500)) - before < 8_000_000
    assert {len(column) for name, column in detector.export_state().items() if name != "detector"} == {1_000}


def test_detector_goes_on_with_an_imported_state_as_if_nothing_had_happened(new_detector: NewDetector) -> None:
    ticks = list(noise(80))
    first, second = new_detector(), new_detector()
    score_all(first, ticks[:50])
    state = first.export_state()
    expected = score_all(first, ticks[50:])
    assert second.import_state(state)
    assert_same_bits(score_all(second, ticks[50:]), expected)
    assert second.import_state(state)
    assert_same_bits(score_all(second, ticks[50:]), expected)


def spoil(state: dict[str, Any], how: str) -> dict[str, Any]:
    column = next(name for name in state if name not in {"detector", "sensors", "seen", "count"})
    return {
        "another detector's": {**state, "detector": np.array(["someone else"])},
        "missing column": {name: array for name, array in state.items() if name != column},
        "surplus column": {**state, "surplus": state[column]},
        "short column": {**state, column: state[column][:-1]},
        "other type": {**state, column: state[column].astype(np.int8)},
        "not finite": {**state, column: np.full_like(state[column], np.nan)},
        "sensor twice": {**state, "sensors": np.array(["s0"] * 8)},
        "empty": {},
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "another detector's",
        "missing column",
        "surplus column",
        "short column",
        "other type",
        "not finite",
        "sensor twice",
        "empty",
    ],
)
def test_state_that_does_not_fit_is_refused_and_changes_nothing(new_detector: NewDetector, how: str) -> None:
    detector, untouched = new_detector(), new_detector()
    ticks = list(noise(60))
    score_all(detector, ticks[:40])
    score_all(untouched, ticks[:40])
    assert not detector.import_state(spoil(detector.export_state(), how))
    assert_same_bits(score_all(detector, ticks[40:]), score_all(untouched, ticks[40:]))


def test_exported_state_is_a_copy(new_detector: NewDetector) -> None:
    detector = new_detector()
    score_all(detector, noise(30))
    state = detector.export_state()
    kept = copy.deepcopy(state)
    score_all(detector, noise(30, seed=1))
    assert all(np.array_equal(state[name], kept[name]) for name in kept)


def test_stale_value_is_not_learned_again() -> None:
    once, held = StatisticalDetector(warmup_ticks=20), StatisticalDetector(warmup_ticks=20)
    score_all(once, noise(60))
    for snapshot in noise(60):
        held.score(snapshot)
        held.score(replace(snapshot, age=np.ones(8, np.float32)))
    assert_same_bits([held.score(tick(21.0))], [once.score(tick(21.0))])
