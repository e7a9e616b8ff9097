"""Measures of scores, and of alarms, against labels; none adjusts points.

``vus_pr`` follows the definition of TSB-AD ("The Elephant in the Room", NeurIPS 2024, and Paparrizos et al., "Volume
Under the Surface", VLDB 2022): labels get sloping flanks of up to half a window, and the area under the
precision-recall curve is averaged over all windows from 0 to ``window``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a score ranks labelled ticks; each between 0 and 1."""

    auroc: float
    auc_pr: float
    vus_pr: float


def quality(label: NDArray[np.int8], score: Floats, window: int = 20) -> Quality | None:
    """All measures of one recording, or None where it holds only one class."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if label.min() == label.max():
        return None
    return Quality(
        auroc=float(roc_auc_score(label, score)),
        auc_pr=float(average_precision_score(label, score)),
        vus_pr=vus_pr(label, score, window),
    )


@dataclass(frozen=True, slots=True)
class AlarmQuality:
    """How well alarms agree with labels at one operating point; each between 0 and 1, 0 without any alarm."""

    range_f1: float
    affiliation_f1: float
    event_f1: float


def alarm_quality(label: NDArray[np.int8], alarm: NDArray[np.int8]) -> AlarmQuality:
    """Range-based (Tatbul et al., 2018), affiliation (Huet et al., 2022) and event-wise F1 (Sehili and Zhang, 2023).

    All by dtaianomaly, with its defaults. There must be an event in ``label``.
    """
    from dtaianomaly.evaluation import AffiliationFBeta, EventWiseFBeta, RangeBasedFBeta

    if not alarm.any():
        return AlarmQuality(0.0, 0.0, 0.0)
    found = (float(metric().compute(label, alarm)) for metric in (RangeBasedFBeta, AffiliationFBeta, EventWiseFBeta))
    return AlarmQuality(*found)


def vus_pr(label: NDArray[np.int8], score: Floats, window: int = 20, thresholds: int = 250) -> float:
    """Volume under the precision-recall surface. :raises ValueError: without a positive label."""
    segments = events(label)
    if not segments:
        raise ValueError("no positive label: the precision-recall surface is not defined")
    order = np.argsort(-score, kind="stable")
    level = score[order][np.linspace(0, len(score) - 1, thresholds).astype(int)]
    predicted = np.searchsorted(-score[order], -level, side="right")
    areas = [_range_pr_area(label, segments, score, order, level, predicted, w) for w in range(window + 1)]
    return float(np.mean(areas))


def events(label: NDArray[np.int8]) -> list[tuple[int, int]]:
    """First and last tick of every run of positive labels."""
    edge = np.flatnonzero(np.diff(np.concatenate(([0], (label > 0).astype(np.int8), [0]))))
    return [(int(start), int(stop) - 1) for start, stop in zip(edge[::2], edge[1::2], strict=True)]


def _range_pr_area(
    label: NDArray[np.int8],
    segments: list[tuple[int, int]],
    score: Floats,
    order: NDArray[np.int64],
    level: Floats,
    predicted: NDArray[np.int64],
    window: int,
) -> float:
    soft = _with_flanks(label, segments, window)
    merged = _merged(segments, window, len(label))
    peak = np.sort([score[start : stop + 1].max() for start, stop in merged])
    existence = 1.0 - np.searchsorted(peak, level, side="left") / len(merged)
    positives = float((label > 0).sum())
    hit = np.cumsum(soft[order])[predicted - 1]
    flank_hit = np.cumsum(np.where(label > 0, 0.0, soft)[order])[predicted - 1]
    recall = np.minimum(hit / (positives + flank_hit / 2.0), 1.0) * existence
    return float(np.dot(np.diff(recall, prepend=0.0), hit / predicted))


def _with_flanks(label: NDArray[np.int8], segments: list[tuple[int, int]], window: int) -> Floats:
    soft = (label > 0).astype(np.float64)
    for start, stop in segments:
        after = np.arange(stop + 1, min(stop + window // 2 + 1, len(label)))
        soft[after] += np.sqrt(1.0 - (after - stop) / max(window, 1))
        before = np.arange(max(start - window // 2, 0), start)
        soft[before] += np.sqrt(1.0 - (start - before) / max(window, 1))
    return np.minimum(soft, 1.0)


def _merged(segments: list[tuple[int, int]], window: int, length: int) -> list[tuple[int, int]]:
    """Segments widened by half a window; those that now touch are one."""
    half = window // 2
    wide: list[tuple[int, int]] = []
    for start, stop in segments:
        if wide and start - half <= wide[-1][1]:
            wide[-1] = (wide[-1][0], min(stop + half, length - 1))
        else:
            wide.append((max(start - half, 0), min(stop + half, length - 1)))
    return wide
