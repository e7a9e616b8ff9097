"""Sensors whose neighbours are missing are judged less sharply."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.decision.bereft import Bereft
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

NEIGHBOUR = np.array([[1, 2], [0, -1], [0, 1]])
ATTENTION = np.array([[0.8, 0.2], [1.0, 0.0], [0.5, 0.5]], np.float32)


def tick(bereft: Bereft, missing: tuple[int, ...] = (), names: tuple[str, ...] = ("a", "b", "c")) -> list[float]:
    usable = np.array([i not in missing for i in range(3)])
    zeros = np.zeros(3, np.float32)
    snapshot = Snapshot(0, 0, 1, names, np.zeros(3), zeros, np.zeros(3, np.int32), usable, NEIGHBOUR)
    attention = np.where(usable[NEIGHBOUR], ATTENTION, 0).astype(np.float32)
    return bereft.allowance(snapshot, Scores(zeros, zeros, zeros, usable, NEIGHBOUR, attention)).tolist()


NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("missing", "factors"),
    [
        ((), [1.0, 1.0, 1.0]),
        ((1,), [1 - 0.7 * 0.8, 1.0, 1 - 0.7 * 0.5]),
        ((2,), [1 - 0.7 * 0.2, 1.0, 1.0]),
        ((0,), [1.0, 0.3, 1 - 0.7 * 0.5]),
        ((0, 1), [1 - 0.7 * 0.8, 0.3, 0.3]),
    ],
)
def test_scores_count_less_by_the_attention_that_went_to_missing_neighbours(
    missing: tuple[int, ...], factors: list[float]
) -> None:
    bereft = Bereft()
    tick(bereft, names=NAMES)
    for _ in range(50):
        assert tick(bereft, missing, names=NAMES) == pytest.approx(factors)
    assert tick(bereft, names=NAMES) == [1.0, 1.0, 1.0]


def test_what_was_never_complete_is_judged_as_it_is() -> None:
    assert tick(Bereft(), (0, 1), names=NAMES) == [1.0, 1.0, 1.0]
