"""What is known after a training, as values: everything that card, plots and tracking show."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from edge_agent import __version__
from edge_agent.bundle.manifest import TrainedEdge
from edge_agent.recording import Recording
from edge_models.faults import Detection

Values = NDArray[np.float64]
Setting = str | int | float | bool | None
_PACKAGES = ("numpy", "onnxruntime", "torch", "scikit-learn", "pyod")
_FIRST_DATE_NS = 10 * 365 * 86_400 * 10**9
"""Times before 1980 are taken for seconds from the start of a recording."""
_LATE = 1.5
"""Rows further apart than this many usual steps have a gap between them."""


@dataclass(frozen=True, slots=True)
class DataSummary:
    """The history that was trained on. ``source``: its file name or public source, never a path.

    ``first`` and ``last``: RFC 3339, None without a clock. ``gaps``: places where rows are missing; ``missing``: share
    of readings that are. ``constant`` never changed, ``empty`` never had a value. ``excluded``: a sentence for each
    thing left out, and ``warnings`` for each thing that is odd. ``licence``: as its owner states it, None if not said.
    """

    source: str
    sha256: str
    rows: int
    used_rows: int
    sensors: tuple[str, ...]
    runs: int = 1
    tick_s: float | None = None
    first: str | None = None
    last: str | None = None
    gaps: int = 0
    missing: float = 0.0
    constant: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class LossPoint:
    """Loss after so many steps; None where it was not measured."""

    step: int
    training: float | None
    held_out: float | None


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """One training. Only the first five are needed: card and plots leave out what is not there.

    ``scores`` [T, N]: of held-out normal ticks, by the very model file. ``likelihood``: as
    :func:`~edge_models.reporting.likelihood.gaussian_likelihood` on those ticks. ``residual`` [N]: root mean square
    error there, in spreads of the sensor. ``faults``: synthetic ones put into those ticks. ``metrics``: anything else
    that was measured, by a name that says what. ``weights_licence``: of the model itself.
    """

    name: str
    recipe: str
    data: DataSummary
    seed: int
    settings: Mapping[str, Setting]
    scores: NDArray[np.float32] | None = None
    likelihood: float | None = None
    residual: Values | None = None
    faults: tuple[Detection, ...] = ()
    loss: tuple[LossPoint, ...] = ()
    edges: tuple[TrainedEdge, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    elapsed_s: float | None = None
    created: str | None = None
    commit: str | None = None
    weights_licence: str = "Apache-2.0"
    versions: Mapping[str, str] = field(default_factory=lambda: versions())


def summarise(
    recording: Recording,
    used: Recording,
    *,
    sha256: str,
    tick_s: float | None = None,
    excluded: Sequence[str] = (),
    warnings: Sequence[str] = (),
    licence: str | None = None,
) -> DataSummary:
    """Describe ``recording`` as read, of which ``used`` was trained on; counts and period are those of ``used``.

    What the recording warns of is not taken over: sensors that stand still or are empty are looked for in what was
    used. ``warnings`` are for what else is odd.
    """
    known = np.isfinite(used.values)
    low = np.where(known, used.values, np.inf).min(0)
    high = np.where(known, used.values, -np.inf).max(0)
    names = np.array(used.sensors)
    empty = ~known.any(0)
    cut = len(recording) - len(used)
    return DataSummary(
        source=recording.path.name,
        sha256=sha256,
        rows=len(recording),
        used_rows=len(used),
        sensors=used.sensors,
        runs=sum(1 for _ in used.runs()),
        tick_s=tick_s,
        first=_moment(used, 0),
        last=_moment(used, -1),
        gaps=_gaps(used),
        missing=float(1.0 - known.mean()),
        constant=tuple(names[(low == high) & ~empty].tolist()),
        empty=tuple(names[empty].tolist()),
        excluded=(*((f"{cut:,} older rows",) if cut else ()), *excluded),
        warnings=tuple(warnings),
        licence=licence,
    )


def versions() -> dict[str, str]:
    """Versions of Python, of the agent, and of the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version(), "edge-agent": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _moment(recording: Recording, row: int) -> str | None:
    """Only dates tell a period; seconds from a start do not."""
    if recording.timestamp is None or recording.time_ns[0] < _FIRST_DATE_NS:
        return None
    return f"{np.datetime64(int(recording.time_ns[row]), 'ns').astype('datetime64[s]')}Z"


def _gaps(recording: Recording) -> int:
    if recording.timestamp is None:
        return 0
    steps = [np.diff(recording.time_ns[rows]) for _, rows in recording.runs()]
    usual = float(np.median(np.concatenate(steps)))
    return int(sum(int((step > _LATE * usual).sum()) for step in steps))
