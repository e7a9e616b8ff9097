"""The rolling graph: sensors come and go, edges are declared, trained and learned."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.clock import NS_PER_S
from edge_agent.graph.learning import EdgeLearner
from edge_agent.graph.rolling import RollingGraph


def graph_of(*names: str, learner: EdgeLearner | None = None, neighbours: int = 3) -> RollingGraph:
    graph = RollingGraph(neighbours, NS_PER_S, 64, learner)
    graph.add_all(names)
    return graph


def feed(graph: RollingGraph, tick: int, values: np.ndarray) -> None:
    index = np.arange(len(values))
    times = np.full(len(values), tick * NS_PER_S)
    graph.update(index, values.astype(float), np.zeros(len(values), np.int32), times)
    graph.snapshot(tick, tick * NS_PER_S, 0)


def neighbours(graph: RollingGraph, name: str) -> list[str]:
    return [other for sensor, other, _ in graph.edges() if sensor == name]


def test_declared_edges_hold_in_both_directions_and_wait_for_their_sensors() -> None:
    graph = graph_of("a")
    graph.declare_edges([("a", "b"), ("c", "a")])
    assert neighbours(graph, "a") == []
    graph.add("b")
    graph.add("c")
    assert neighbours(graph, "a") == ["b", "c"]
    assert neighbours(graph, "b") == ["a"]


def test_declared_come_before_trained_and_there_are_never_more_than_k() -> None:
    graph = graph_of("a", "b", "c", "d", "e", neighbours=3)
    graph.set_trained_edges([("a", "d", 0.2), ("a", "e", -0.9), ("a", "c", 0.5)])
    graph.declare_edges([("a", "b")])
    assert neighbours(graph, "a") == ["b", "e", "c"]


def test_a_sensor_is_never_its_own_neighbour() -> None:
    graph = graph_of("a", "b")
    graph.declare_edges([("a", "a"), ("a", "b"), ("a", "b")])
    assert neighbours(graph, "a") == ["b"]


def test_removal_renumbers_neighbours() -> None:
    graph = graph_of("a", "b", "c", "d")
    graph.declare_edges([("d", "b"), ("d", "c"), ("a", "d")])
    keep = graph.remove(["b"])
    assert keep.tolist() == [0, 2, 3]
    assert neighbours(graph, "d") == ["c", "a"]
    assert graph.snapshot(0, 0, 0).neighbour[2].tolist() == [1, 0, -1]


def test_learned_edges_find_what_moves_together() -> None:
    rng = np.random.default_rng(1)
    graph = graph_of("a", "b", "c", "d", learner=EdgeLearner(32, 1000))
    walk = np.cumsum(rng.normal(size=(64, 2)), axis=0)
    for tick in range(64):
        x, y = walk[tick]
        feed(graph, tick, np.array([x, y, 3 * x + 0.01 * rng.normal(), -y + 0.01 * rng.normal()]))
    assert neighbours(graph, "a")[0] == "c"
    assert neighbours(graph, "d")[0] == "b"
    assert {origin for *_, origin in graph.edges()} == {"learned"}


def test_learning_is_the_same_every_time() -> None:
    def run() -> list[tuple[str, str, str]]:
        rng = np.random.default_rng(7)
        graph = graph_of(*(f"s{i}" for i in range(20)), learner=EdgeLearner(16, 32))
        for tick in range(120):
            feed(graph, tick, rng.normal(size=20))
        return graph.edges()

    assert run() == run()


def test_saved_learned_edges_come_back() -> None:
    rng = np.random.default_rng(1)
    first = graph_of("a", "b", "c", learner=EdgeLearner(32, 1000))
    for tick in range(64):
        x = rng.normal()
        feed(first, tick, np.array([x, 2 * x, rng.normal()]))
    assert first.learner is not None
    second = graph_of("a", "b", "c", learner=EdgeLearner(32, 1000))
    second.restore_learned(first.learner.export())
    assert second.edges() == first.edges()


def test_constant_and_missing_sensors_do_not_disturb_learning() -> None:
    graph = graph_of("a", "b", "c", learner=EdgeLearner(16, 32))
    for tick in range(64):
        index = np.array([0, 1])
        flags = np.zeros(2, np.int32)
        graph.update(index, np.array([5.0, float(tick)]), flags, np.full(2, tick * NS_PER_S))
        graph.snapshot(tick, tick * NS_PER_S, 0)
    assert graph.edges() == []


def test_the_window_gives_values_back_even_when_they_are_large() -> None:
    graph = graph_of("a")
    values = 1e7 + np.arange(10) * 0.125
    for tick, value in enumerate(values):
        feed(graph, tick, np.array([value]))
    assert graph.window(np.array([0]), 10)[:, 0].tolist() == values.tolist()
    assert graph.window(np.array([0]), 3)[:, 0].tolist() == values[-3:].tolist()


def test_a_sensor_that_has_never_spoken_counts_as_missing() -> None:
    snapshot = graph_of("a").snapshot(0, 0, 0)
    assert not snapshot.usable[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_any_order_of_coming_and_going_keeps_values_with_their_names(steps: list[tuple[bool, int]]) -> None:
    graph = graph_of(learner=EdgeLearner(16, 16))
    graph.declare_edges([(f"s{i}", f"s{i + 1}") for i in range(12)])
    model: dict[str, float] = {}
    for tick, (joins, number) in enumerate(steps):
        name = f"s{number}"
        if joins:
            graph.add(name)
            model[name] = float(tick)
        elif name in model:
            graph.remove([name])
            del model[name]
        feed(graph, tick, np.array([model[sensor] for sensor in graph.sensors]))
        assert dict(zip(graph.sensors, graph.value[: len(graph)].tolist(), strict=True)) == model
        for sensor, other, origin in graph.edges():
            assert other in model
            if origin == "declared":
                assert abs(int(sensor[1:]) - int(other[1:])) == 1


def test_an_edge_of_a_trained_model_waits_for_its_neighbour() -> None:
    graph = graph_of("a")
    graph.set_trained_edges([("a", "b", 0.5)])
    graph.add("b")
    assert neighbours(graph, "a") == ["b"]
    assert neighbours(graph, "b") == []


def test_a_first_value_that_is_a_spike_does_not_blur_the_window() -> None:
    graph = graph_of("a")
    values = [1e15, *(20.0 + 0.001 * np.arange(5))]
    for tick, value in enumerate(values):
        feed(graph, tick, np.array([value]))
    assert graph.window(np.array([0]), 6)[:, 0].tolist() == values


def test_the_past_is_replayed_as_it_was_when_asked_for() -> None:
    graph = graph_of("a", "b")
    for tick in range(5):
        feed(graph, tick, np.array([tick, -tick]))
    past = graph.replay()
    feed(graph, 5, np.array([99.0, 99.0]))
    graph.remove(["a"])
    assert [snapshot.value.tolist() for snapshot in past] == [[tick, -tick] for tick in range(5)]


def test_newcomers_after_a_removal_are_learned_about_soon() -> None:
    rng = np.random.default_rng(3)
    graph = graph_of("a", "b", "c", learner=EdgeLearner(32, 10_000))
    for tick in range(40):
        feed(graph, tick, rng.normal(size=3))
    graph.remove(["a", "b"])
    graph.add("d")
    for tick in range(40, 120):
        x = rng.normal()
        feed(graph, tick, np.array([x, 2 * x]))
    assert neighbours(graph, "d") == ["c"]


def test_restored_edges_are_not_judged_anew_from_a_short_window() -> None:
    rng = np.random.default_rng(4)
    graph = graph_of("a", "b", learner=EdgeLearner(16, 10_000))
    graph.restore_learned(np.array([[1], [0]]))
    for tick in range(64):
        feed(graph, tick, rng.normal(size=2))
    assert neighbours(graph, "a") == ["b"]


def test_a_constant_sensor_has_no_learned_edges_however_large_it_is() -> None:
    graph = graph_of("a", "b", learner=EdgeLearner(16, 32))
    for tick in range(64):
        feed(graph, tick, np.array([0.1 + 1e9, tick]))
    assert graph.edges() == []
