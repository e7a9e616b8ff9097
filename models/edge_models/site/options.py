"""What may be chosen about a site model, and what is told about its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str, float], None]
"""Told what is being done, and the share of all that is done."""


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """What may be chosen. ``run_column`` tells recordings apart; ``tick_s`` None: taken from the timestamps.

    ``select``, ``units`` and ``names`` are those of :func:`~edge_models.histories.open_history`.
    ``gathered_from``: what the history was put together from for this training, with rows of weight several times: it
    is named in the history's place, and that rows repeat is not told.
    """

    run_column: str | None = None
    tick_s: float | None = None
    time_budget_s: float = 300.0
    seed: int = 0
    name: str = "site"
    select: str | None = None
    units: Path | None = None
    names: str | None = None
    gathered_from: str | None = None


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What training did. ``held_out_loss``: of telling synthetic faults, relative to knowing nothing (1 = no gain).

    ``used_rows`` of the ``rows`` were learned from or held out. ``constant`` and ``empty``: sensors that never changed,
    and that never had a value; both are part of the bundle. ``warnings``: what is odd about the history.
    """

    out: str
    rows: int
    used_rows: int
    sensors: int
    constant: tuple[str, ...]
    empty: tuple[str, ...]
    edges: int
    held_out_loss: float
    score_median: float
    score_p99: float
    elapsed_s: float
    sha256: str
    warnings: tuple[str, ...] = ()
