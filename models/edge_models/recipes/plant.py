"""A plant's normal history as recipes want it: standardised, gaps held, cut into parts that are not mixed.

::

    sample ─┬─ learned from ─┬─ most of each part ─► training     what a recipe is fitted on
            │                └─ its last 15% ──────► validation   when a recipe stops
            └─ held out ───────────────────────────► held out     residual spreads, calibration, choice among recipes

The sample is the one that site models are trained on (:mod:`edge_models.site.sample`): bounded, whatever the length of
the history, and no part goes across a border of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_models.histories import History
from edge_models.histories.findings import Report
from edge_models.histories.profile import Profile
from edge_models.histories.report import check_history
from edge_models.neighbours import partial_correlations, read_edges
from edge_models.reporting import DataSummary
from edge_models.site import SiteOptions
from edge_models.site.reading import opened, warnings_of
from edge_models.site.sample import Sample, collected, planned

Values = NDArray[np.float64]
MAX_SENSORS = 1_000
"""The recipes here relate every sensor with every other, so their weights grow with the square of the sensors."""
INPUT_LIMIT = 5.0
"""Deviations beyond which an input is clipped, so that one wild sensor does not carry all estimates away."""
LEVEL_LIMIT = 1e6
_VALIDATION = 0.15
_LEAST_CUT = 64
_FEW_CHANGES = 20


@dataclass(frozen=True, slots=True)
class Normal:
    """Mean and usual deviation of each sensor [N], in its unit, and the largest score it can justify [N]."""

    mean: Values
    deviation: Values
    limit: Values


@dataclass(frozen=True, slots=True)
class Plant:
    """Parts of the history, each [T, N] in deviations from the mean with gaps filled by the last reading.

    ``known`` and ``raw`` are the parts that were learned from and held out, in the sensors' units, NaN where nothing
    arrived. ``units`` beside ``sensors`` (None: not known). ``edges``: declared pairs; ``strength`` [N, N]: partial
    correlations.
    """

    sensors: tuple[str, ...]
    units: tuple[str | None, ...]
    normal: Normal
    training: tuple[Values, ...]
    validation: tuple[Values, ...]
    held_out: tuple[Values, ...]
    known: tuple[Values, ...]
    raw: tuple[Values, ...]
    edges: tuple[tuple[int, int], ...]
    strength: Values
    summary: DataSummary


def read_plant(data: str | Path, edges: Path | None, options: SiteOptions) -> Plant:
    """Read a history of normal operation in two passes, as for a site model.

    :raises DataFileError: it cannot be read or used, or has too many sensors; a line for each reason.
    """
    history = opened(data, options)
    if len(history.sensors) > MAX_SENSORS:
        raise DataFileError(
            f"{history.where}: got {len(history.sensors)} sensors, expected at most {MAX_SENSORS} for this recipe;"
            " `--recipe hybrid` relates each sensor with a few neighbours only"
        )
    declared = () if edges is None else tuple(read_edges(edges, history.sensors))
    report, profile, sample = _sampled(history, options.seed)
    tick_s = history.period_s if history.timed or options.tick_s is not None else None
    summary = _summary(profile, sample, tick_s, warnings_of(report, options))
    return plant_of(history.sensors, sample.training, sample.held_out, summary, history.units, declared)


def held_out_parts(data: str | Path, options: SiteOptions) -> list[Values]:
    """The parts [T, N] of a history that training holds out, in the sensors' units. Raises as :func:`read_plant`."""
    return _sampled(opened(data, options), options.seed)[2].held_out


def plant_of(
    sensors: tuple[str, ...],
    training: Sequence[Values],
    held_out: Sequence[Values],
    summary: DataSummary,
    units: tuple[str | None, ...] | None = None,
    edges: tuple[tuple[int, int], ...] = (),
) -> Plant:
    """The plant of parts [T, N] in the sensors' units, NaN where a reading is missing."""
    everything = np.concatenate(training)
    normal = normal_of(everything)
    levels = [standardise(part, normal) for part in training]
    fitted, validated = _validation(levels)
    return Plant(
        sensors=sensors,
        units=units or (None,) * len(sensors),
        normal=normal,
        training=fitted,
        validation=validated,
        held_out=tuple(standardise(part, normal) for part in held_out),
        known=tuple(training),
        raw=tuple(held_out),
        edges=edges,
        strength=partial_correlations(everything),
        summary=summary,
    )


def normal_of(values: Values) -> Normal:
    """What is usual of each column of ``values`` [T, N].

    A column that never moves gets a hundredth of its size as deviation. One that hardly ever moved cannot say how
    remarkable a move is: what happens once in n readings has a squared deviation of about 2 ln n, and no more is
    claimed of it.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0.0).sum(0) / count
    deviation = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(0) / count)
    alive = deviation > 1e-6 * np.abs(mean) + 1e-9
    deviation = np.where(alive, deviation, 0.01 * np.maximum(np.abs(mean), 1.0))
    changes = (np.diff(hold(values), axis=0) != 0.0).sum(0)
    limit = np.where(changes < _FEW_CHANGES, 2.0 * np.log(count + 2.0), LEVEL_LIMIT)
    return Normal(mean, deviation, limit)


def standardise(values: Values, normal: Normal) -> Values:
    """Deviations from the mean, gaps held, beginning at the mean where a sensor starts with a gap."""
    level = np.clip((values - normal.mean) / normal.deviation, -LEVEL_LIMIT, LEVEL_LIMIT)
    return np.nan_to_num(hold(level))


def hold(values: Values) -> Values:
    """``values`` [T, N] with every gap filled by the reading before it; NaN only before the first reading."""
    at = np.where(np.isfinite(values), np.arange(len(values))[:, None], 0)
    return np.asarray(np.take_along_axis(values, np.maximum.accumulate(at, axis=0), axis=0), np.float64)


def _sampled(history: History, seed: int) -> tuple[Report, Profile, Sample]:
    report, profile = check_history(history)
    report.refuse_errors()
    return report, profile, collected(history, planned(profile.ticks, len(history.sensors), seed))


def _validation(parts: Sequence[Values]) -> tuple[tuple[Values, ...], tuple[Values, ...]]:
    """The last 15 % of every part that is long enough, or of the longest one where none is."""
    least = min(_LEAST_CUT, max(map(len, parts)))
    cut = [len(part) - int(_VALIDATION * len(part)) if len(part) >= least else len(part) for part in parts]
    pairs = [(part[:place], part[place:]) for part, place in zip(parts, cut, strict=True)]
    return tuple(first for first, _ in pairs), tuple(last for _, last in pairs if len(last))


def _summary(profile: Profile, sample: Sample, tick_s: float | None, warnings: tuple[str, ...]) -> DataSummary:
    names = np.array(profile.history.sensors)
    known = profile.heard.sum() / (max(profile.ticks, 1) * len(names))
    return DataSummary(
        source=Path(profile.history.where).name,
        sha256=profile.sha256,
        rows=profile.timing.rows,
        used_rows=sample.ticks,
        sensors=profile.history.sensors,
        runs=profile.segments,
        tick_s=tick_s,
        gaps=profile.timing.gaps,
        missing=float(1.0 - known),
        constant=tuple(names[profile.constant].tolist()),
        empty=tuple(names[profile.empty].tolist()),
        excluded=() if sample.whole else ("what lies between windows at random places of equal strata",),
        warnings=warnings,
    )
