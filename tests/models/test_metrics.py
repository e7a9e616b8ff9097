import numpy as np
import pytest

from edge_models.metrics import events, quality, vus_pr


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
