"""A challenger trained on the history of a gateway, and whether it should take the place of the model in use.

::

    history ─┬─ incidents true or unjudged, with a margin ──► left out
             ├─ false alarms ──► training, several times over
             └─ the rest ─┬─ first part ──► training ──► challenger ─┐
    champion's reservoir ─┤                                          │
                          └─ last part, which neither has seen ──────┴─► report: champion beside challenger

Nothing but normal readings is judged on: what is asked is how often a model cries wolf on them, and how well it sees
faults of known kinds put into them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.cli.offline_model import OfflineModel, load_model
from edge_agent.decision.options import DecisionOptions
from edge_agent.errors import DataFileError
from edge_agent.history.export import Period, ReadingTable, read_readings
from edge_agent.pipeline.engine import PipelineOptions
from edge_agent.pipeline.offline import detect
from edge_agent.recording import Recording, write_table
from edge_agent.verdict import Feedback
from edge_models import rehearsal
from edge_models.faults import KINDS, Detection, detection
from edge_models.neighbours import choose_neighbours, partial_correlations
from edge_models.places import check_new_folder
from edge_models.recipes.command import AnyReport, as_json, train
from edge_models.site import SiteOptions
from edge_models.streaming import score_rows

Values = NDArray[np.float64]
Bools = NDArray[np.bool_]
Say = Callable[[str, float], None]

_LEAST_HELD_OUT = 200
_LEAST_RUN = 30  # rows; what is left between two incidents may be too short to say anything
_MOST_JUDGED = 3_000
_WARM_UP = 3_000
_CLEARLY = 0.02  # of an AUROC: less is chance
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class RetrainOptions:
    """``recipe`` and ``int8``: see :func:`~edge_models.recipes.command.train`. ``false_alarms``: the budget.

    ``margin_s``: how much is left out before and after an incident. ``false_alarm_copies``: how many times readings of
    a false alarm are trained on. ``held_out``: share of the normal rows, the last ones, that both are judged on.
    ``kinds`` of synthetic faults that both have to find.
    """

    site: SiteOptions = field(default_factory=SiteOptions)
    recipe: str = "hybrid"
    int8: bool = False
    margin_s: float = 600.0
    false_alarm_copies: int = 3
    held_out: float = 0.2
    false_alarms: str = "1 per week"
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are for what; ``training`` and ``judged`` exclude each other and whatever is left out.

    ``training``: stretches of rows in the order they are trained on, a false alarm several times.
    """

    training: tuple[slice, ...]
    judged: tuple[slice, ...]
    left_out: int
    false_alarm_rows: int


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model on the held-out part. ``quantiles`` of the plant's log score at .5, .9, .99 and .999.

    ``false_incidents`` opened under the budget; ``alarm_share`` of the ticks. ``detection``: by kind of fault.
    """

    name: str
    quantiles: tuple[float, ...]
    false_incidents: int
    alarm_share: float
    detection: tuple[Detection, ...]

    @property
    def auroc(self) -> float | None:
        """Mean over the kinds of faults that could be put in."""
        found = [kind.auroc for kind in self.detection if kind.auroc is not None]
        return float(np.mean(found)) if found else None


@dataclass(frozen=True, slots=True)
class RetrainReport:
    """What was trained on what, both models beside each other, and what is recommended, with reasons."""

    training: AnyReport
    rows: int
    rows_left_out: int
    rows_of_false_alarms: int
    rows_rehearsed: int
    rows_judged: int
    every_s: float
    champion: ModelReport
    challenger: ModelReport
    publish: bool
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {**asdict(self), "training": as_json(self.training)}
        found["champion"]["auroc"], found["challenger"]["auroc"] = self.champion.auroc, self.challenger.auroc
        return found


def retrain(
    history: Path,
    edges: Path | None,
    out: Path,
    champion: Path | None,
    options: RetrainOptions,
    say: Say | None = None,
    train: Callable[..., AnyReport] = train,
) -> RetrainReport:
    """Train a challenger on the readings in ``history`` into the bundle folder ``out`` and judge it.

    ``champion``: the bundle in use, None for the universal model. ``train``
    makes the challenger, as :func:`~edge_models.recipes.command.train` does. Raises
    :class:`~edge_agent.errors.DataFileError` for a history that holds too little normal operation, and
    :class:`~edge_agent.errors.BundleError` for a champion that must not be used. What
    is said of the training table is said of ``history``, that rows of false alarms repeat is not said.
    """
    check_new_folder(out)
    table = read_readings(history)
    rival = load_model(champion)
    chosen = select(table, options)
    kept = [] if champion is None else rehearsal.load(rehearsal.beside(champion), table.sensors)
    past = rehearsal.gone(kept, table.values)
    new = [table.values[part] for part in chosen.training]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "history.parquet"
        _write_training(table, with_past(past, new), data)
        site = replace(options.site, gathered_from=str(table.path))
        trained = train(data, edges, out, options.recipe, site, options.int8, say)
    rehearsal.save(rehearsal.beside(out), table.sensors, rehearsal.drawn(kept, new, options.site.seed))
    judge = _Judge(table, chosen, options)
    before = judge.report("champion", rival)
    after = judge.report("challenger", load_model(out))
    publish, reasons = recommend(before, after)
    if (strangers := rival.strangers(table.sensors)) is not None:
        reasons = (f"champion: {strangers}", *reasons)
    return RetrainReport(
        training=trained,
        rows=len(table),
        rows_left_out=chosen.left_out,
        rows_of_false_alarms=chosen.false_alarm_rows,
        rows_rehearsed=sum(len(segment.values) for segment in past),
        rows_judged=sum(_length(part) for part in chosen.judged),
        every_s=table.every_ns / 1e9,
        champion=before,
        challenger=after,
        publish=publish,
        reasons=reasons,
    )


# -- which rows ----------------------------------------------------------------------------------------------------


def select(table: ReadingTable, options: RetrainOptions) -> Selection:
    """Rows for training and for judging. :raises DataFileError: too few are left."""
    suspicious, false_alarm = marked(table, options.margin_s)
    normal = ~suspicious
    judged = normal & ~false_alarm & (np.cumsum(normal) > (1.0 - options.held_out) * normal.sum())
    parts = _stretches(judged, table.run)
    count = sum(_length(part) for part in parts)
    if count < _LEAST_HELD_OUT:
        raise DataFileError(
            f"{table.path}: {count} rows of normal operation are left to judge models on, of {len(table)} in all; "
            f"expected at least {_LEAST_HELD_OUT}: gather readings for longer, or judge the incidents that were false"
        )
    usual = _stretches(normal & ~judged & ~false_alarm, table.run)
    forced = _stretches(normal & false_alarm, table.run)
    # Copies first: the end of what is trained on is what levels and spreads are taken from.
    if not usual:
        raise DataFileError(f"{table.path}: no row of normal operation is left to train on")
    training = (*(part for _ in range(options.false_alarm_copies) for part in forced), *usual)
    false_rows = sum(_length(part) for part in forced)
    return Selection(training, tuple(parts), int(suspicious.sum()), false_rows)


def marked(table: ReadingTable, margin_s: float) -> tuple[Bools, Bools]:
    """Rows [T] under suspicion (incidents true or unjudged, with the margin), and rows of false alarms outside them."""
    margin_ns = round(margin_s * 1e9)
    suspicious, false_alarm = np.zeros((2, len(table)), np.bool_)
    known = np.zeros(len(table), np.bool_)
    for period in table.periods:
        during = _rows(table, period, 0)
        known |= during
        if period.verdict is Feedback.FALSE_ALARM:
            false_alarm |= during
        else:
            suspicious |= _rows(table, period, margin_ns)
    # An alarm whose incident is no longer in the history was never judged.
    for part in _stretches(table.alarm & ~known, table.run, least=1):
        stop_ns = int(table.time_ns[part.stop - 1])
        suspicious |= _rows(table, Period("", int(table.time_ns[part.start]), stop_ns, None), margin_ns)
    return suspicious, false_alarm & ~suspicious


def _rows(table: ReadingTable, period: Period, margin_ns: int) -> Bools:
    stop_ns = table.time_ns[-1] if period.stop_ns is None else period.stop_ns
    return np.asarray((table.time_ns >= period.start_ns - margin_ns) & (table.time_ns <= stop_ns + margin_ns))


def _stretches(which: Bools, run: NDArray[np.int64], least: int = _LEAST_RUN) -> list[slice]:
    """Stretches of rows of one run where ``which`` is True, those of at least ``least`` rows."""
    group = np.where(which, run + 1, 0)
    cuts = np.flatnonzero(np.diff(group)) + 1
    bounds = zip([0, *cuts], [*cuts, len(group)], strict=True)
    return [slice(int(a), int(b)) for a, b in bounds if group[a] and b - a >= least]


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def with_past(past: Sequence[rehearsal.Segment], new: Sequence[Values]) -> list[Values]:
    """Every fourth old segment last: what is at the end is held out in training, and spreads are measured on it."""
    first = [segment.values for at, segment in enumerate(past) if at % 4 < 3]
    return [*first, *new, *(segment.values for segment in past[3::4])]


def _write_training(table: ReadingTable, parts: Sequence[Values], path: Path) -> None:
    """The table that is trained on: each stretch a run of its own, on times that only grow."""
    values = np.concatenate(parts)
    runs = np.concatenate([np.full(len(part), number, np.int64) for number, part in enumerate(parts)])
    time_ns = int(table.time_ns[-1]) - np.arange(len(values), dtype=np.int64)[::-1] * table.every_ns
    columns = {name: values[:, i] for i, name in enumerate(table.sensors)}
    write_table(path, {"timestamp": time_ns.astype("datetime64[ns]"), "run": runs, **columns})


# -- judging -------------------------------------------------------------------------------------------------------


class _Judge:
    """Both models meet the same rows after the same warm-up."""

    def __init__(self, table: ReadingTable, chosen: Selection, options: RetrainOptions) -> None:
        self._table, self._options = table, options
        training = np.concatenate([table.values[part] for part in chosen.training])
        self._warm_up = training[-_WARM_UP:]
        self._normal = training
        self._parts = [table.values[part] for part in chosen.judged]
        # Faults are put into what was never interrupted.
        self._longest = max(self._parts, key=len)[-_MOST_JUDGED:]

    def report(self, name: str, model: OfflineModel) -> ModelReport:
        """Scores, false alarms and faults seen by ``model``."""
        found = detect(
            _recording(self._table, self._parts),
            model.detector,
            warmup=_recording(self._table, [self._warm_up]),
            calibration=model.calibration,
            trained_edges=model.edges,
            options=PipelineOptions(
                decision=DecisionOptions.model_validate({"false_alarms": self._options.false_alarms})
            ),
        )
        scores = found.score[np.isfinite(found.score)]
        model.detector.reset()
        return ModelReport(
            name=name,
            quantiles=tuple(float(q) for q in np.quantile(scores, _QUANTILES)) if len(scores) else (),
            false_incidents=sum(one.kind.value == "process" for one in found.incidents.values()),
            alarm_share=float(found.alarm.mean()),
            detection=self._detection(model),
        )

    def _detection(self, model: OfflineModel) -> tuple[Detection, ...]:
        score, options = self._scorer(model), self._options
        return detection(score, self._normal, self._longest, options.site.seed, options.kinds)

    def _scorer(self, model: OfflineModel) -> Callable[[Values], NDArray[np.float32]]:
        """Scores of readings that come after the warm-up, each time anew."""
        neighbour = _neighbours(self._table.sensors, model, self._normal)
        score_rows(model.detector, self._warm_up, neighbour, self._table.sensors)
        warm = model.detector.export_state()

        def score(values: Values) -> NDArray[np.float32]:
            model.detector.import_state({key: array.copy() for key, array in warm.items()})
            return score_rows(model.detector, values, neighbour, self._table.sensors)

        return score


def _neighbours(sensors: tuple[str, ...], model: OfflineModel, normal: Values) -> NDArray[np.int64]:
    """Neighbours [N, K] that the model was trained with; for one without, those that a gateway would learn."""
    most = model.detector.neighbours
    if not model.edges:
        return choose_neighbours(partial_correlations(normal), most)
    index = {name: i for i, name in enumerate(sensors)}
    rows: list[list[int]] = [[] for _ in sensors]
    for sensor, other, _ in model.edges:
        if sensor in index and other in index:
            rows[index[sensor]].append(index[other])
    return np.array([(row + [-1] * most)[:most] for row in rows], np.int64)


def _recording(table: ReadingTable, parts: Sequence[Values]) -> Recording:
    values = np.concatenate(parts)
    run = np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)])
    time_ns = int(table.time_ns[0]) + np.arange(len(values), dtype=np.int64) * table.every_ns
    return Recording(table.path, table.sensors, values, time_ns, None, run, None, ())


# -- recommending --------------------------------------------------------------------------------------------------


def recommend(champion: ModelReport, challenger: ModelReport) -> tuple[bool, tuple[str, ...]]:
    """Whether to publish the challenger, and why.

    Never with more false alarms, never clearly blinder on the mean of all kinds of faults, better in one of both. A
    single kind is judged on few faults: those that the challenger sees much worse are named, and do not decide.
    """
    old, new = champion.false_incidents, challenger.false_incidents
    reasons = [f"{new} false incidents on held-out normal readings, the champion {old}"]
    gained, lost = 0.0, []
    if champion.auroc is None or challenger.auroc is None:
        reasons.append("too few held-out readings to put faults into: only false alarms were compared")
    else:
        gained = challenger.auroc - champion.auroc
        reasons.append(f"faults told from normal with AUROC {challenger.auroc:.3f}, the champion {champion.auroc:.3f}")
        lost = _lost(champion, challenger)
        reasons += [f"blinder to {kind}: {text}" for kind, text in lost]
    listed = ", ".join(kind for kind, _ in lost)
    worse, better = new > old or gained < -_CLEARLY, new < old or gained > _CLEARLY
    reasons.append(
        "publish: better on the whole" + (f", though blinder to {listed}" if listed else ", and nowhere clearly worse")
        if better and not worse
        else "keep the champion: " + ("the challenger is worse" if worse else "the challenger is not clearly better")
    )
    return better and not worse, tuple(reasons)


def _lost(champion: ModelReport, challenger: ModelReport) -> list[tuple[str, str]]:
    """Kinds of faults that the challenger sees much worse."""
    return [
        (before.kind, f"AUROC {after.auroc:.3f}, was {before.auroc:.3f}")
        for before, after in zip(champion.detection, challenger.detection, strict=True)
        if before.auroc is not None and after.auroc is not None and after.auroc < before.auroc - 5 * _CLEARLY
    ]
