"""Drift of one plant: blocks, sums, the rule, and what is told of it."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.drift.blocks import STATISTICS, BlockSums, Floats, in_units
from edge_agent.drift.cusum import Bools, Cusum, Reference, limit
from edge_agent.drift.findings import DriftFinding, DriftKind, SensorShift, Statistic
from edge_agent.drift.groups import largest_group
from edge_agent.drift.options import DriftOptions
from edge_agent.drift.rule import Change, Verdict, judge
from edge_agent.drift.staleness import Staleness
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

_NAMED = 20  # sensors in one event
_APART_BLOCKS = 12  # between two events of one kind
_BACK = 1.2  # deviations from the reference within which the mean of recent blocks has come back
_FAR = 2.0  # and beyond which it is worth telling
_JOINING = 0.75  # of the bound: a sensor on its way when others have moved
_CREPT = 1.0  # deviations that the reference itself has been taken along: of a mean over a day, no chance
_AGREE = 4.0  # deviations within which recent blocks agree with each other
_STRAINED = 3.0  # deviations above the reference at which a sensor's residual is not normal
_ONSET_BLOCKS = 12  # a change that shows so long after an incident may have begun under it
_BROKEN_BLOCKS = 12  # without an incident, after which broken relations are told
_WAITING_BLOCKS = 6
_LEAST_TICKS = 10
_FOLLOWING = 0.25  # of the furthest: what follows a spoofed sensor hardly moves beside it
_STILL = -log(10.0)  # of the spread's logarithm: it hardly moves any more
_WHAT = {
    Verdict.PLANT: "the plant has settled at a new operating point, its relations hold and no incident is open; "
    "if it is to stay, train the model anew from history",
    Verdict.SENSOR: "sensors have settled at another level or spread than the plant around them",
    Verdict.HELD: "sensors have moved and no longer agree with the others, although no incident is open; "
    "compare them with another instrument",
    Verdict.SUSPECTED: "what changed under incident {incident} has not come back; judge it with "
    "`edge-agent incidents feedback {incident} false|true`",
}
_LEVEL, _SPREAD, _RESIDUAL = (STATISTICS.index(one) for one in (Statistic.LEVEL, Statistic.SPREAD, Statistic.RESIDUAL))
_SHAPE = len(STATISTICS)


class DriftMonitor:
    """Watches level, spread and residual of every sensor, and the residuals of the plant as a whole.

    O(1) memory and time a tick: about 600 bytes a sensor; blocks under an incident teach nothing.
    """

    def __init__(self, options: DriftOptions, period_s: float) -> None:
        self._options = options
        self._block_ticks = max(_LEAST_TICKS, round(options.block / period_s))
        self._false_signals = options.false_signals * self._block_ticks * period_s
        self._sensors: tuple[str, ...] = ()
        self._staleness = Staleness(options.reference_blocks)
        self._recent: Floats
        self._waiting: Floats
        self.shifted: Bools
        self._steady = self._moved_count = 0
        self._neighbour: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._start(0)
        self._told: dict[DriftKind, int] = {}
        self.blocks = 0
        self._quiet = 0
        self._incident: str | None = None  # open at some tick of the block begun
        self._last_incident: str | None = None
        self._last_incident_block = 0
        self._suspected: str | None = None
        self._told_suspected: str | None = None
        self._exonerated: str | None = None
        self._broken = 0  # blocks in which relations were broken and no incident was open
        self._announced: int | None = None  # block after which maintenance ended
        self.verdict = Verdict.NONE

    # -- ticks -------------------------------------------------------------------------------------------------

    def observe(self, snapshot: Snapshot, scores: Scores, incident: str | None) -> tuple[DriftFinding, ...]:
        """Take one tick in; what is to be told, at most one finding of each kind, at the end of a block.

        ``incident`` is the id of the process incident that is open, None without one.
        """
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors)
        self._neighbour = snapshot.neighbour
        self._sums.add(snapshot, scores)
        self._incident = incident or self._incident
        return self._close_block() if self._sums.ticks >= self._block_ticks else ()

    def maintained(self) -> None:
        """This tick belongs to announced work on the plant: its block is not looked at, and what has changed by it is
        no incident's doing. Call it instead of :meth:`observe`."""
        self.new_run()
        self._announced = self.blocks

    def new_run(self) -> None:
        """The stream starts anew: the block begun is dropped."""
        self._sums, self._incident = BlockSums(len(self._sensors)), None

    def model_replaced(self) -> None:
        """Scores of another model mean something else: residuals are learned anew."""
        which = np.zeros(self.shifted.shape, np.bool_)
        which[_RESIDUAL] = True
        self._forget(which)
        self._staleness.forget()
        self.new_run()

    def exonerate(self, incident: str) -> None:
        """A person has judged ``incident`` a false alarm: a change that began under it may be the plant's own."""
        self._exonerated = incident
        if self._suspected == incident:
            self._suspected = None

    # -- what is known -----------------------------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """True while residuals are larger than they used to be, with evidence enough."""
        return self._staleness.stale

    @property
    def evidence(self) -> float:
        """Evidence that the model is stale, 1 for none; 10,000 is convincing."""
        return self._staleness.evidence

    @property
    def block_ended(self) -> bool:
        """True when the tick seen last was the last one of its block."""
        return self._sums.ticks == 0

    @property
    def ready(self) -> bool:
        """True when the reference of most sensors has been learned."""
        return bool(len(self._sensors)) and bool(np.median(self._reference.count[0]) >= self._options.reference_blocks)

    def counts(self) -> dict[str, int]:
        """How many sensors are away from their reference now, by statistic."""
        return {name.value: int(row.sum()) for name, row in zip(STATISTICS, self.shifted, strict=True)}

    def status(self) -> dict[str, Any]:
        """What the API shows."""
        return {
            "ready": self.ready,
            "blocks": self.blocks,
            "verdict": self.verdict.value,
            "suspected": self._suspected,
            "model_stale": self.stale,
            "evidence": round(self.evidence, 2),
            "drifting": self.counts(),
            "sensors": [shift.to_dict() for shift in self._shifts(self.shifted)[:_NAMED]],
        }

    def export(self) -> dict[str, NDArray[Any]]:
        """The reference, for saving; the block begun is not in it."""
        arrays = {name: getattr(self._reference, name) for name in Reference.FIELDS}
        return {**arrays, "sensors": np.array(self._sensors, np.str_), "staleness": self._staleness.export()}

    def restore(self, saved: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises KeyError, ValueError: it is of another form."""
        sensors, staleness = tuple(str(name) for name in saved["sensors"].ravel()), saved["staleness"]
        arrays = {name: np.array(saved[name], np.float64) for name in Reference.FIELDS}  # to be written to
        if staleness.ndim != 1 or not len(staleness) or any(a.shape != (_SHAPE, len(sensors)) for a in arrays.values()):
            raise ValueError(f"saved drift reference: expected arrays [{_SHAPE}, {len(sensors)}]")
        self._start(len(sensors))
        for name, array in arrays.items():
            setattr(self._reference, name, array)
        self._sensors = sensors
        self._staleness.restore(staleness)

    # -- blocks ------------------------------------------------------------------------------------------------

    def _close_block(self) -> tuple[DriftFinding, ...]:
        found, incident = self._sums.statistics(), self._incident
        normal = incident is None
        self.blocks += 1
        self._quiet = self._quiet + 1 if normal else 0
        self._follow(found, normal=normal)
        became_stale = normal and self._residual_level(found[_RESIDUAL])
        self._suspect(incident)
        self.new_run()
        findings = self._judge()
        if became_stale:
            findings.append(self._stale_finding())
        told = [finding for finding in findings if self._may_tell(finding.kind)]
        crept = np.abs(self._reference.crept) > _CREPT
        crept[_RESIDUAL] = False
        if crept.any() and self._may_tell(DriftKind.SENSOR_DRIFT):
            told.append(self._crept_finding(crept))
            self._reference.settle(crept)
        return tuple(told)

    def _follow(self, found: Floats, *, normal: bool) -> None:
        """Sums, latches, then the reference: judged before learned from."""
        there = np.isfinite(found)
        value = np.where(there, found, self._reference.mean)
        known = there & (self._reference.count >= self._options.reference_blocks)
        self._cusum.add(np.where(known, self._reference.score(value), 0.0), self._reference.count)
        self._recent = np.concatenate((self._recent[1:], value[np.newaxis]))
        self.shifted = self.shifted | (self._cusum.sum > self._bound)
        if self.shifted.any():
            back: Bools = self.shifted & (np.abs(self._away().mean(axis=0)) < _BACK)
            self.shifted = self.shifted & ~back
            self._cusum.forget(back)
        self._learn(found, normal=normal)

    def _learn(self, found: Floats, *, normal: bool) -> None:
        """Blocks wait before they are learned from, or a slow change would teach that it is usual."""
        if not normal:
            self._waiting[:] = np.nan
            return
        oldest = self._waiting[0]
        unmoved = ~self.shifted & (self._cusum.sum < self._bound / 2)
        learning = self._reference.count < self._options.reference_blocks  # nothing is judged yet: no need to wait
        value = np.where(learning, found, oldest)
        self._reference.learn(value, np.isfinite(value) & unmoved)
        waiting = np.where(learning, np.nan, found)
        self._waiting = np.concatenate((self._waiting[1:], waiting[np.newaxis]))

    def _residual_level(self, residual: Floats) -> bool:
        there = np.isfinite(residual)
        return bool(there.any()) and self._staleness.add(float(residual[there].mean()))

    def _suspect(self, incident: str | None) -> None:
        """Lay a change at the door of an incident that was open shortly before it showed, or since.

        After announced work on the plant it is the work that has changed it.
        """
        if self._announced is not None and self.blocks - self._announced <= _ONSET_BLOCKS:
            self._suspected = self._last_incident = None
            return
        if incident is not None and incident != self._exonerated:
            self._last_incident, self._last_incident_block = incident, self.blocks
        if not self.shifted[:_RESIDUAL].any():
            self._suspected = self._told_suspected = None
        elif self._last_incident is not None and self.blocks - self._last_incident_block <= _ONSET_BLOCKS:
            self._suspected = self._last_incident
        if self._suspected == self._exonerated:
            self._suspected = None

    def _judge(self) -> list[DriftFinding]:
        moved = self._moved()
        count = int(moved.sum())
        self._steady = self._steady + 1 if count <= self._moved_count else 0
        self._moved_count = count
        self.verdict = judge(self._change(moved), self._options) if count else Verdict.NONE
        self._broken = self._broken + (self.verdict is Verdict.HELD and self._quiet > 0) if count else 0
        if self.verdict is Verdict.HELD and self._broken == _BROKEN_BLOCKS:
            return [self._finding(moved)]
        if self.verdict is Verdict.SUSPECTED and self._told_suspected != self._suspected:
            self._told_suspected = self._suspected
            return [self._finding(moved)]
        if self.verdict in (Verdict.PLANT, Verdict.SENSOR):
            finding = self._finding(moved)
            self._accept(moved)
            return [finding]
        return []

    def _moved(self) -> Bools:
        """Sensors [N] whose level or spread has moved; when one has, those on their way count too."""
        moved: Bools = np.any(self.shifted[:_RESIDUAL], axis=0)
        if moved.any():
            along = self.shifted | (self._cusum.sum > _JOINING * self._bound)
            moved = np.any((along & (np.abs(self._away().mean(axis=0)) > _FAR))[:_RESIDUAL], axis=0)
        return moved

    def _change(self, moved: Bools) -> Change:
        away = self._away()
        residual = away[:, _RESIDUAL].mean(axis=0)
        spread_of_recent = np.ptp(self._recent, axis=0) / self._reference.usual
        settled = (spread_of_recent[:_RESIDUAL] < _AGREE).all(axis=0)
        watched = self._reference.count[0] >= self._options.reference_blocks
        far = np.abs(away[:, :_RESIDUAL].mean(axis=0)).max(axis=0)
        calmed = (self._recent[:, _SPREAD] - self._reference.mean[_SPREAD]).mean(axis=0) < _STILL
        return Change(
            moved=int(moved.sum()),
            levels=int((moved & (np.abs(away[:, _LEVEL].mean(axis=0)) > _FAR)).sum()),
            stilled=int((moved & calmed).sum()),
            group=largest_group(moved & (far >= _FOLLOWING * far[moved].max(initial=0.0)), self._neighbour),
            watched=int(watched.sum()),
            settled=int((settled & moved).sum()),
            strained=int(((residual > _STRAINED) & watched).sum()),
            strained_moved=int(((residual > _STRAINED) & moved).sum()),
            quiet_blocks=self._quiet,
            steady_blocks=self._steady,
            suspected=self._suspected is not None,
        )

    def _away(self) -> Floats:
        """Recent blocks [M, 3, N] in long-run deviations from the reference."""
        return (self._recent - self._reference.mean) / self._reference.usual

    def _accept(self, moved: Bools) -> None:
        """The new state is what is compared with from now on."""
        self._forget(np.broadcast_to(moved, self.shifted.shape))
        self._staleness.forget()

    def _forget(self, which: Bools) -> None:
        self._reference.forget(which)
        self._waiting[:, which] = np.nan
        self._cusum.forget(which)
        self.shifted[which] = False

    # -- what is told ------------------------------------------------------------------------------------------

    def _finding(self, moved: Bools) -> DriftFinding:
        shifts = self._shifts((self._cusum.sum > _JOINING * self._bound) & moved)
        kind = DriftKind.PLANT_CHANGED if self.verdict is Verdict.PLANT else DriftKind.SENSOR_DRIFT
        names = ", ".join(list(dict.fromkeys(shift.sensor for shift in shifts))[:5])
        what = _WHAT[self.verdict].format(incident=self._suspected)
        message = f"{what}: {int(moved.sum())} of {len(self._sensors)} sensors, most of all {names}"
        return DriftFinding(kind, message, int(moved.sum()), tuple(shifts[:_NAMED]), self._suspected)

    def _crept_finding(self, crept: Bools) -> DriftFinding:
        before, now, away = self._reference.anchor, self._reference.mean, self._reference.crept
        shifts = self._sorted_shifts(crept, before, now, away)
        names = ", ".join(list(dict.fromkeys(shift.sensor for shift in shifts))[:5])
        count = int(crept.any(axis=0).sum())
        message = (
            f"sensors have crept away, too slowly for anything else to notice: {count} of {len(self._sensors)}, "
            f"most of all {names}; compare them with another instrument"
        )
        return DriftFinding(DriftKind.SENSOR_DRIFT, message, count, tuple(shifts[:_NAMED]))

    def _stale_finding(self) -> DriftFinding:
        residuals = np.zeros(self.shifted.shape, np.bool_)
        residuals[_RESIDUAL] = np.isfinite(self._recent[-1, _RESIDUAL])
        shifts = self._shifts(residuals)
        message = "the model fits the plant less well than it did: residuals have grown; train it anew from history"
        return DriftFinding(DriftKind.MODEL_STALE, message, len(shifts), tuple(shifts[:_NAMED]))

    def _shifts(self, which: Bools) -> list[SensorShift]:
        """The changes in ``which`` [3, N], largest first."""
        return self._sorted_shifts(which, self._reference.mean, self._recent.mean(axis=0), self._away().mean(axis=0))

    def _sorted_shifts(self, which: Bools, before: Floats, now: Floats, away: Floats) -> list[SensorShift]:
        rows, columns = np.nonzero(which)
        order = np.argsort(-np.abs(away[rows, columns]), kind="stable")
        return [
            SensorShift(
                self._sensors[column],
                STATISTICS[row],
                float(in_units(STATISTICS[row], before[row, column])),
                float(in_units(STATISTICS[row], now[row, column])),
                float(away[row, column]),
            )
            for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
        ]

    def _may_tell(self, kind: DriftKind) -> bool:
        """One event of a kind in twelve blocks: what happens more often is seen in the status and the metrics."""
        if self.blocks - self._told.get(kind, -_APART_BLOCKS) < _APART_BLOCKS:
            return False
        self._told[kind] = self.blocks
        return True

    # -- sensors -----------------------------------------------------------------------------------------------

    def _start(self, sensors: int) -> None:
        shape = (_SHAPE, sensors)
        self._sums = BlockSums(sensors)
        self._reference, self._cusum = Reference(shape), Cusum(shape)
        self._bound = limit(_SHAPE * sensors, self._false_signals)
        self._steady = self._moved_count = 0
        self._recent = np.zeros((self._options.settled_blocks, *shape))
        self._waiting = np.full((_WAITING_BLOCKS, *shape), np.nan)
        self.shifted = np.zeros(shape, np.bool_)

    def _align(self, sensors: tuple[str, ...]) -> None:
        """Carry what is known over to other sensors; the block begun is dropped."""
        old = {name: i for i, name in enumerate(self._sensors)}
        source = np.array([old.get(name, -1) for name in sensors], np.int64)
        stay = source >= 0
        reference, cusum, shifted = self._reference, self._cusum, self.shifted
        recent, waiting = self._recent, self._waiting
        self._start(len(sensors))
        for name in Reference.FIELDS:
            getattr(self._reference, name)[:, stay] = getattr(reference, name)[:, source[stay]]
        self._cusum.up[:, stay], self._cusum.down[:, stay] = cusum.up[:, source[stay]], cusum.down[:, source[stay]]
        self._recent[..., stay] = recent[..., source[stay]]
        self._waiting[..., stay] = waiting[..., source[stay]]
        self.shifted[:, stay] = shifted[:, source[stay]]
        self._sensors = sensors
