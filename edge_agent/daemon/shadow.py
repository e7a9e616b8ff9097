"""A candidate scores beside the model in use; nothing it says counts, all of it is compared.

::

    tick ── snapshot, what the model in use said ──▶ a few wait ──▶ candidate (in a thread, where ONNX Runtime lets the
                                                    tick run beside it) ──▶ between ticks: a decision for each of both

Both decisions begin without knowledge and see the same ticks, so that levels of their own, companions and what was
learned before favour none. When the machine is busy the tick goes first: what waits too long is skipped and counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.daemon.models import Model
from edge_agent.daemon.slices import in_slices
from edge_agent.daemon.vitals import RECENT, model_score
from edge_agent.decision.decider import Decider
from edge_agent.decision.facts import Relation
from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference import DetectorError
from edge_agent.metrics import Metrics
from edge_agent.ota.gates import distance, standardised
from edge_agent.ota.ports import Comparison
from edge_agent.pipeline.engine import TickReport
from edge_agent.verdict import IncidentKind, Scores

_MOST_WAITING = 16
_FEWEST = 20  # ticks without which two distributions are not compared


@dataclass(frozen=True, slots=True)
class _Tick:
    snapshot: Snapshot
    scores: Scores
    detector_ns: int
    monitored: NDArray[np.bool_]


class _Facts:
    """What the decision may ask: which sensors count. The rest is for sentences that nobody reads here."""

    def __init__(self, monitored: NDArray[np.bool_]) -> None:
        self.monitored = monitored

    def unit(self, _sensor: int) -> str | None:
        return None

    def weight(self, _sensor: int) -> int:
        return 0

    def readings(self, sensors: NDArray[np.int64], _ticks: int) -> NDArray[np.float64]:
        return np.full((1, len(sensors)), np.nan)

    def relations(self, _sensor: int, _most: int) -> list[Relation]:
        return []

    def source(self, _sensor: int) -> str | None:
        return None


class _Side:
    """What one of the two models said so far."""

    def __init__(self, decider: Decider) -> None:
        self.scores: deque[float] = deque(maxlen=RECENT)
        self.tick_ms: deque[float] = deque(maxlen=RECENT)
        self._decider = decider
        self._opened: set[str] = set()
        self.alarms = 0
        self.judged = 0

    def take(self, tick: _Tick, scores: Scores, ns: int) -> None:
        decision = self._decider.decide(tick.snapshot, scores, _Facts(tick.monitored))
        opened = {one.id for one in decision.changed if one.kind is IncidentKind.PROCESS} - self._opened
        self._opened |= opened
        self.alarms += len(opened)
        self.judged += decision.p_value is not None
        self.tick_ms.append(ns / 1e6)

    def p99_ms(self) -> float:
        return float(np.percentile(self.tick_ms, 99)) if self.tick_ms else 0.0


class Shadow:
    """One candidate beside the model in use. ``decider`` makes a decision that knows nothing yet.

    ``busy``: whether ticks are late at present. ``pause``: see :func:`~edge_agent.daemon.slices.in_slices`.
    """

    def __init__(
        self,
        model: Model,
        decider: Callable[[], Decider],
        busy: Callable[[], bool],
        pause: Callable[[float], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self.model = model
        self._pause = pause
        self._metrics = metrics
        self._busy = busy
        self._waiting: deque[_Tick] = deque()
        self._more = asyncio.Event()
        self._candidate, self._in_use = _Side(decider()), _Side(decider())
        self._ticks = 0
        self._failures = 0
        self._trouble: str | None = None
        self._skipped = 0

    def ticked(self, report: TickReport, monitored: NDArray[np.bool_]) -> None:
        """Have the candidate see one tick, soon."""
        if self._busy() or len(self._waiting) >= _MOST_WAITING:
            self._skipped += 1
            self._metrics.ota_shadow_ticks.labels("skipped").inc()
            return
        self._waiting.append(_Tick(report.snapshot, report.model_scores, report.detector_ns, monitored))
        self._more.set()

    async def run(self) -> None:
        """Score what waits, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                tick = self._waiting.popleft()
                scored = await asyncio.to_thread(self._score, tick)
                self._metrics.ota_shadow_ticks.labels("failed" if scored is None else "scored").inc()
                if scored is not None:
                    await in_slices(self._judge(tick, *scored), self._pause)

    def comparison(self) -> Comparison:
        """How they compare so far."""
        ours, theirs = np.array(self._candidate.scores), np.array(self._in_use.scores)
        enough = len(ours) >= _FEWEST
        found = Comparison(
            ticks=self._ticks,
            failures=self._failures,
            distance=distance(standardised(ours).tolist(), standardised(theirs).tolist()) if enough else 0.0,
            alarms=float(self._candidate.alarms),
            alarms_in_use=float(self._in_use.alarms),
            p99_ms=self._candidate.p99_ms(),
            p99_ms_in_use=self._in_use.p99_ms(),
            details=self._details(ours, theirs),
        )
        self._show(found)
        return found

    def _show(self, found: Comparison) -> None:
        metrics = self._metrics
        metrics.ota_shadow_distance.labels().set(found.distance)
        metrics.ota_shadow_alarms.labels("candidate").set(found.alarms)
        metrics.ota_shadow_alarms.labels("in_use").set(found.alarms_in_use)
        metrics.ota_shadow_p99.labels("candidate").set(found.p99_ms / 1e3)
        metrics.ota_shadow_p99.labels("in_use").set(found.p99_ms_in_use / 1e3)

    def _details(self, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
        enough = len(ours) >= _FEWEST
        return {
            "scored": len(ours),
            "judged": self._candidate.judged,
            "skipped": self._skipped,
            "level": float(np.median(ours) - np.median(theirs)) if enough else None,
            "agreement": _rank_correlation(ours, theirs) if enough else None,
            "trouble": self._trouble,
        }

    # -- inside ------------------------------------------------------------------------------------------------

    def _score(self, tick: _Tick) -> tuple[Scores, int] | None:
        """In a thread."""
        self._ticks += 1
        started_ns = time.thread_time_ns()
        try:
            scores = self.model.detector.score(tick.snapshot)
        except DetectorError as error:
            self._failures += 1
            self._trouble = str(error)
            return None
        return scores, time.thread_time_ns() - started_ns

    def _judge(self, tick: _Tick, scores: Scores, spent_ns: int) -> Iterator[None]:
        self._candidate.take(tick, scores, spent_ns)
        yield
        self._in_use.take(tick, tick.scores, tick.detector_ns)
        yield
        found, known = model_score(scores), model_score(tick.scores)
        if found is not None and known is not None:
            self._candidate.scores.append(found)
            self._in_use.scores.append(known)


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's coefficient: 1 when both find the same ticks unusual, in the same order; None for a constant one."""
    ranks = [one.argsort().argsort().astype(np.float64) for one in (first, second)]
    if any(np.ptp(one) == 0 for one in (first, second)):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
