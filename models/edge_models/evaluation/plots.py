"""Pictures: how detectors compare on each set, and what ours said of each test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from edge_models.evaluation.alarms import threshold_for
from edge_models.evaluation.metrics import events
from edge_models.evaluation.streams import Streams
from edge_models.evaluation.suites import Case
from edge_models.evaluation.summary import Row

_OURS, _OTHERS, _EVENT = "tab:orange", "tab:gray", "tab:red"


def draw_rows(rows: Sequence[Row], ours: Sequence[str], folder: Path) -> None:
    """A bar chart for each set: VUS-PR with its 95 % bootstrap interval over streams, best first."""
    for name in dict.fromkeys(row.set for row in rows):
        own = sorted((row for row in rows if row.set == name), key=lambda row: row.ranking.vus_pr)
        figure = Figure(figsize=(8, 1.5 + 0.22 * len(own)), layout="constrained")
        axes = figure.subplots()
        means = np.array([row.ranking.vus_pr for row in own])
        bounds = np.array([(row.ranking.low, row.ranking.high) for row in own])
        colours = [_OURS if any(row.detector.startswith(one) for one in ours) else _OTHERS for row in own]
        reach = np.abs(bounds - means[:, None]).T
        axes.barh([row.detector for row in own], means, xerr=reach, color=colours, ecolor="black", capsize=2)
        axes.set(xlim=(0, 1), xlabel="VUS-PR, 95 % interval over streams", title=name)
        _save(figure, folder / f"{name.replace(':', '-')}.png")


def draw_streams(case: Case, streams: Streams, folder: Path) -> None:
    """For each test the plant's score, the threshold of the budget, and the labelled events."""
    threshold = threshold_for(streams.calm, case.false_alarms_per_s * case.tick_s)
    for test in case.entity.tests:
        figure = Figure(figsize=(12, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot(streams.tests[test.name].plant, linewidth=0.6, color="black")
        if np.isfinite(threshold.open):
            axes.axhline(threshold.open, linewidth=0.8, linestyle="--", color=_OURS)
        for start, stop in events(test.label):
            axes.axvspan(start, stop + 1, color=_EVENT, alpha=0.25, linewidth=0)
        axes.set(xlabel="tick", ylabel="score", title=f"{case.set} {case.entity.name} {test.name}")
        parts = (case.set, case.entity.name, test.name)
        _save(figure, folder / f"{'_'.join(parts).replace('/', '-').replace(':', '-')}.png")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
