from collections.abc import Sequence

import numpy as np
import pytest
from ticks import tick

from edge_agent.inference import StatisticalDetector

RNG = np.random.default_rng(0)
TICKS = np.arange(3_000)
NORMAL = {
    "white noise": 20 + RNG.normal(size=3_000),
    "random walk": RNG.normal(size=3_000).cumsum(),
    "slow wave": 20 + 5 * np.sin(TICKS / 50) + 0.1 * RNG.normal(size=3_000),
    "heavy tails": RNG.standard_t(3, size=3_000),
    "rounded": np.round(0.6 * RNG.normal(size=3_000)),
}


def run(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, StatisticalDetector]:
    """Scores of one sensor."""
    detector = StatisticalDetector()
    return np.array([detector.score(tick(value, ("a",))).score[0] for value in values]), detector


@pytest.mark.parametrize("kind", NORMAL)
def test_score_is_about_one_on_any_normal_signal(kind: str) -> None:
    scores, _ = run(NORMAL[kind])
    assert 0.7 < scores[200:].mean() < 1.5


def test_constant_sensor_scores_nothing_and_its_last_digit_little() -> None:
    scores, detector = run([50.0] * 200)
    assert not scores.any()
    assert detector.score(tick(50.005, ("a",))).score[0] <= 1.0
    assert detector.score(tick(51.0, ("a",))).score[0] > 10.0


def test_spike_poisons_neither_mean_nor_scale() -> None:
    calm, _ = run(NORMAL["white noise"])
    spiky = NORMAL["white noise"].copy()
    spiky[1_000] = 1e12
    spiky[1_010] += 10.0
    scores, _ = run(spiky)
    assert scores[1_000] == 1e3
    assert scores[1_010] > 8.0
    # The tick after a spike is a jump back; from then on the level is judged as before, changes a little milder.
    assert scores[1_012:].mean() == pytest.approx(calm[1_012:].mean(), rel=0.15)
    np.testing.assert_allclose(np.minimum(scores[1_012:], calm[1_012:]), scores[1_012:], rtol=0.1, atol=0.1)


def test_lasting_shift_is_seen_at_once_and_becomes_normal_in_a_few_hundred_ticks() -> None:
    scores, _ = run(NORMAL["white noise"] + np.where(TICKS < 1_000, 0.0, 20.0))
    assert scores[1_000] > 15.0
    assert scores[2_000:].mean() < 1.5


def test_sensor_that_starts_to_switch_is_new_only_for_a_while() -> None:
    scores, _ = run((TICKS // 50 % 2).astype(float))
    assert scores[:100].max() == 1e3
    assert scores[2_000:].max() < 20.0
    assert scores[2_000:].mean() < 2.0


def test_warmup_counts_fresh_readings_only() -> None:
    detector = StatisticalDetector(warmup_ticks=10)
    for _ in range(10):
        assert not detector.score(tick(20.0, ("a",))).valid.any()
        held = tick(20.0, ("a",), age=np.ones(1, np.float32))
        assert not detector.score(held).valid.any()
    assert detector.score(tick(20.0, ("a",))).valid.all()
