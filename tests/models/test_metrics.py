import numpy as np
import pytest

from edge_models.evaluation.metrics import AlarmQuality, alarm_quality, events, quality, vus_pr


def reference_vus_pr(label, score, window, thresholds=250):
    """The definition spelled out, threshold by threshold."""
    segments = events(label)
    ordered = np.sort(score)[::-1]
    areas = []
    for w in range(window + 1):
        soft = label.astype(float)
        for start, stop in segments:
            for t in range(stop + 1, min(stop + w // 2 + 1, len(label))):
                soft[t] += np.sqrt(1 - (t - stop) / w)
            for t in range(max(start - w // 2, 0), start):
                soft[t] += np.sqrt(1 - (start - t) / w)
        soft = np.minimum(soft, 1.0)
        wide = []
        for start, stop in segments:
            if wide and start - w // 2 <= wide[-1][1]:
                wide[-1][1] = min(stop + w // 2, len(label) - 1)
            else:
                wide.append([max(start - w // 2, 0), min(stop + w // 2, len(label) - 1)])
        area, last = 0.0, 0.0
        for i in np.linspace(0, len(score) - 1, thresholds).astype(int):
            predicted = score >= ordered[i]
            hits = (soft * predicted).sum()
            positives = (label.sum() + np.where(label > 0, 1.0, soft * predicted).sum()) / 2
            found = np.mean([predicted[a : b + 1].any() for a, b in wide])
            recall = min(hits / positives, 1.0) * found
            area += (recall - last) * hits / predicted.sum()
            last = recall
        areas.append(area)
    return np.mean(areas)


@pytest.mark.parametrize("seed", range(4))
def test_vus_pr_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    label = np.zeros(400, np.int8)
    for start in (30, 44, 200, 390):
        label[start : start + 9] = 1
    score = np.round(rng.normal(0, 1, 400) + 1.5 * label, 1 + seed % 2)
    assert vus_pr(label, score, 12) == pytest.approx(reference_vus_pr(label, score, 12), abs=1e-9)


def test_perfect_score_is_near_one_and_random_near_the_share():
    rng = np.random.default_rng(0)
    label = (np.arange(4_000) % 400 < 40).astype(np.int8)
    assert vus_pr(label, label + 0.01 * rng.random(4_000), 0) > 0.95
    assert vus_pr(label, rng.random(4_000), 0) == pytest.approx(0.1, abs=0.05)


def test_one_class_has_no_quality():
    assert quality(np.zeros(50, np.int8), np.arange(50.0)) is None
    with pytest.raises(ValueError, match="no positive label"):
        vus_pr(np.zeros(50, np.int8), np.arange(50.0))


@pytest.mark.parametrize(("window", "tolerance"), [(0, 0.01), (20, 0.05)])
@pytest.mark.parametrize("strength", [0.0, 1.5, 4.0])
def test_vus_pr_agrees_with_dtaianomaly(strength, window, tolerance):
    """Theirs is TimeEval's: the same but for the trapezoidal rule, and for flanks that count in full even where the
    score missed them, which costs recall."""
    evaluation = pytest.importorskip("dtaianomaly.evaluation")
    rng = np.random.default_rng(0)
    label = np.zeros(2_000, np.int8)
    for start in (60, 700, 1_480):
        label[start : start + 60] = 1
    score = rng.normal(0, 1, 2_000) + strength * label
    theirs = evaluation.VolumeUnderPR(max(window, 1), compatibility_mode=True).compute(label, score)
    assert vus_pr(label, score, window) == pytest.approx(theirs, abs=tolerance)


def test_alarms_exactly_on_the_events_are_perfect():
    label = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 0], np.int8)
    assert alarm_quality(label, label) == AlarmQuality(1.0, 1.0, 1.0)


def test_alarms_by_hand():
    """Two events, one found by half of it, one false alarm."""
    label = np.array([0, 1, 1, 0, 0, 0, 0, 1, 1, 0], np.int8)
    alarm = np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0], np.int8)
    found = alarm_quality(label, alarm)
    # Range: precision (1 + 0) / 2; recall of the first event 0.5 for being found + 0.5 * 1/2, of the second 0.
    recall = (0.5 + 0.5 * 0.5) / 2
    assert found.range_f1 == pytest.approx(2 * 0.5 * recall / (0.5 + recall))
    # Event-wise: 1 of 2 found; precision 1 / 2, times the share of normal ticks without alarm, 5 / 6.
    precision = 0.5 * 5 / 6
    assert found.event_f1 == pytest.approx(2 * precision * 0.5 / (precision + 0.5))


def test_no_alarm_has_no_quality():
    label = np.array([0, 1, 1, 0], np.int8)
    assert alarm_quality(label, np.zeros(4, np.int8)) == AlarmQuality(0.0, 0.0, 0.0)
