"""Pictures of a training. Figures are made without pyplot: no window, no global state, any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_models.reporting.record import TrainingRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Plot = Callable[[TrainingRecord], "Figure | None"]
"""A figure, or None where the record has nothing to show."""
_MOST_BARS = 40
_MOST_NODES = 60
_MOST_EDGES = 300
_MOST_LETTERS = 24
_SEEN = "tab:blue"
_MISSED = "tab:red"


def loss_curve(record: TrainingRecord) -> Figure | None:
    """Loss of training and held-out parts by step."""
    if not record.loss:
        return None
    figure, axes = _figure("Loss", "step", "loss")
    for part in ("training", "held_out"):
        points = [(at.step, value) for at in record.loss if (value := getattr(at, part)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=part.replace("_", " "), marker="." if len(points) < 30 else "")
    axes.legend()
    return figure


def score_distribution(record: TrainingRecord) -> Figure | None:
    """Share of held-out normal scores above a value, on two logarithmic axes: its tail is what false alarms are."""
    if record.scores is None or not record.scores.size:
        return None
    figure, axes = _figure("Scores on held-out normal readings", "score", "share of scores above")
    plant = record.scores.mean(1) if record.scores.ndim == 2 else record.scores
    for label, scores in (("sensors", record.scores.ravel()), ("mean of the plant", plant)):
        ordered = np.sort(np.maximum(scores, 1e-6))
        share = 1.0 - np.arange(len(ordered)) / len(ordered)
        every = max(1, len(ordered) // 5_000)  # the tail is kept whole
        kept = np.unique(np.concatenate((np.arange(0, len(ordered), every), np.arange(len(ordered))[-500:])))
        axes.plot(ordered[kept], share[kept], label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend()
    return figure


def fault_bars(record: TrainingRecord) -> Figure | None:
    """AUROC by kind of synthetic fault; the line is chance."""
    found = {one.kind: one.auroc for one in reversed(record.faults) if one.auroc is not None}
    if not found:
        return None
    figure, axes = _figure("Synthetic faults in held-out readings", "AUROC", "", height=0.6 + 0.28 * len(found))
    axes.barh(list(found), list(found.values()), color=[_SEEN if auroc > 0.5 else _MISSED for auroc in found.values()])
    axes.axvline(0.5, color="black", linewidth=0.8)
    axes.set_xlim(0.0, 1.0)
    return figure


def learned_graph(record: TrainingRecord) -> Figure | None:
    """Sensors on a circle, the strongest edges between them; at most sixty sensors, those with the strongest edges."""
    if not record.edges:
        return None
    strongest = sorted(record.edges, key=lambda edge: -abs(edge.weight))
    chosen = list(dict.fromkeys(name for edge in strongest for name in (edge.sensor, edge.neighbour)))[:_MOST_NODES]
    order = [sensor for sensor in record.data.sensors if sensor in set(chosen)]
    angle = {sensor: 2 * np.pi * place / len(order) for place, sensor in enumerate(order)}
    drawn = [edge for edge in strongest if edge.sensor in angle and edge.neighbour in angle][:_MOST_EDGES]
    title = f"Learned graph: {len(drawn)} of {len(record.edges)} edges"
    figure, axes = _figure(title, "", "", width=8.0, height=8.0)
    largest = max(abs(edge.weight) for edge in drawn) or 1.0
    for edge in reversed(drawn):
        ends = np.array([angle[edge.neighbour], angle[edge.sensor]])
        strength = abs(edge.weight) / largest
        axes.plot(np.cos(ends), np.sin(ends), color=_SEEN, alpha=0.1 + 0.8 * strength, linewidth=0.5 + 2 * strength)
    for sensor, place in angle.items():
        _node(axes, sensor, place)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.margins(0.25)
    return figure


def sensor_residuals(record: TrainingRecord) -> Figure | None:
    """Held-out error of each sensor, in its spreads; at most forty, the largest."""
    if record.residual is None or not np.isfinite(record.residual).any():
        return None
    size: NDArray[np.float64] = np.nan_to_num(record.residual, nan=-1.0)
    worst = np.argsort(-size, kind="stable")[:_MOST_BARS]
    worst = worst[size[worst] >= 0.0][::-1]
    title = f"Error on held-out readings: {len(worst)} of {len(size)} sensors"
    figure, axes = _figure(title, "root mean square error in spreads", "", height=0.8 + 0.22 * len(worst))
    axes.barh(np.arange(len(worst)), size[worst], color=_SEEN)
    axes.set_yticks(np.arange(len(worst)), [_label(record.data.sensors[i]) for i in worst])
    axes.axvline(1.0, color="black", linewidth=0.8)
    return figure


PLOTS: Mapping[str, Plot] = {
    "loss.png": loss_curve,
    "scores.png": score_distribution,
    "faults.png": fault_bars,
    "graph.png": learned_graph,
    "residuals.png": sensor_residuals,
}
"""By name of the file in the report."""


def _figure(title: str, across: str, up: str, width: float = 7.0, height: float = 4.0) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, max(height, 1.6)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes


def _node(axes: Axes, sensor: str, angle: float) -> None:
    x, y = np.cos(angle), np.sin(angle)
    axes.plot([x], [y], marker="o", color="black", markersize=3)
    degrees = np.degrees(angle)
    flipped = 90.0 < degrees < 270.0
    axes.text(
        1.04 * x,
        1.04 * y,
        _label(sensor),
        rotation=degrees - 180.0 if flipped else degrees,
        rotation_mode="anchor",
        ha="right" if flipped else "left",
        va="center",
        fontsize=7,
    )


def _label(sensor: str) -> str:
    """A name as plain text: ``$`` would start a formula."""
    short = sensor if len(sensor) <= _MOST_LETTERS else f"{sensor[: _MOST_LETTERS - 1]}…"
    return short.replace("$", r"\$")
