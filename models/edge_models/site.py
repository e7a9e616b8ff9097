"""A site model: the universal weights fine-tuned on one plant's own history, with constants for each of its sensors.

::

    history ─┬─ first 3/4 ─► experts ─► levels, expert weights ─┐
             │             └► fine-tune the network             ├─► constants (context rows) ─► bundle
             └─ last 1/4 ──► spreads of the residuals ──────────┘                               ▲
                           └► scores through ONNX Runtime ─► calibration ───────────────────────┘

Spreads and calibration come from readings that nothing was fitted on.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.bundle.manifest import SensorSpec, TrainedEdge
from edge_agent.bundle.store import universal_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.errors import DataFileError
from edge_agent.inference.onnx import OnnxDetector
from edge_agent.recording import Recording, read_recording
from edge_models.bundling import GOLDEN_TICKS, Exported, Origin, Site, golden_inputs, unpack_weights, write_exported
from edge_models.datasets import data_digest
from edge_models.hybrid import HybridStep, Tick
from edge_models.neighbours import choose_neighbours, named_edges, partial_correlations, read_edges
from edge_models.network import HybridNetwork
from edge_models.state import CONTEXT, CONTEXT_WIDTH, MEMORY, NEIGHBOURS, VIEWS, State
from edge_models.streaming import score_rows
from edge_models.training import History, Progress, fit, prepare

Values = NDArray[np.float64]
Say = Callable[[str, float], None]
LEAST_ROWS = 64
RECENT_TICKS = 20_000
"""Of a longer history only the last part is used: plants change, and training has to end."""
_HELD_OUT = 0.25
_MOST_STEPS = 400
_LEARNING_RATE = 7e-4
_WINSOR = 5.0
_SKIPPED_TICKS = 8
_LEAST_HELD_OUT = 8
_LEAST_HEARD = 32


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """What may be chosen. ``run_column`` tells recordings apart; ``tick_s`` None: taken from the timestamps."""

    run_column: str | None = None
    tick_s: float | None = None
    time_budget_s: float = 300.0
    seed: int = 0
    name: str = "site"


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What training did. ``held_out_loss``: loss after fine-tuning relative to the linear experts alone (1 = no gain).

    ``constant`` and ``empty``: sensors that never changed, and that never had a value; both are part of the bundle.
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


def train_site(
    data: Path, edges: Path | None, out: Path, options: SiteOptions, progress: Say | None = None
) -> TrainReport:
    """Train on the normal history in ``data`` and write a bundle folder to ``out``.

    ``progress`` is told what is being done and the share of all that is done. Raises
    :class:`~edge_agent.errors.DataFileError` for a history that cannot be used and
    :class:`~edge_agent.errors.BundleError` when ``out`` is not empty.
    """
    begun = time.monotonic()
    say = progress or _silent
    say("reading", 0.0)
    _refuse_used(out)
    recording = read_recording(data, options.run_column)
    history = _usable(recording)
    declared = [] if edges is None else read_edges(edges, history.sensors)
    options = options if options.tick_s is not None else dataclasses.replace(options, tick_s=_tick_of(recording))
    training, held_out = _split(history)
    plant = _Plant.of(history.sensors, training, declared)

    say("learning levels and relations", 0.05)
    torch.manual_seed(options.seed)
    network = unpack_weights(universal_bundle())
    context = plant.context(_learned_state(HybridStep(network).eval(), training, plant))
    loss = _fine_tune(network, training, plant, options, begun, say)

    say("measuring spreads on held-out readings", 0.75)
    step = HybridStep(network).eval()
    context = _with_spreads(step, held_out, plant, context)
    say("calibrating", 0.85)
    bundle, scores = _write(out, step, history, held_out, plant, context, options, loss)
    say("done", 1.0)
    constant, empty = _still(history)
    return TrainReport(
        out=str(out),
        rows=len(recording),
        used_rows=len(history),
        sensors=len(history.sensors),
        constant=constant,
        empty=empty,
        edges=len(bundle.manifest.edges),
        held_out_loss=loss,
        score_median=float(np.median(scores)),
        score_p99=float(np.quantile(scores, 0.99)),
        elapsed_s=time.monotonic() - begun,
        sha256=bundle.sha256,
    )


@dataclass(frozen=True, slots=True)
class _Plant:
    """The sensors, their neighbours [N, K], and how strongly any two are related [N, N]."""

    sensors: tuple[str, ...]
    neighbour: NDArray[np.int64]
    strength: Values

    @classmethod
    def of(cls, sensors: tuple[str, ...], training: Sequence[Values], declared: Sequence[tuple[int, int]]) -> _Plant:
        strength = partial_correlations(np.concatenate(training))
        return cls(sensors, choose_neighbours(strength, NEIGHBOURS, declared), strength)

    def context(self, state: State) -> NDArray[np.float32]:
        """Context rows from what the experts have learned; 0 where a sensor was hardly ever heard."""
        memory = dict(zip(MEMORY, state.memory.numpy().T, strict=True))
        rows = np.zeros((len(self.sensors), CONTEXT_WIDTH), np.float32)
        rows[:, CONTEXT.known] = 1.0
        rows[:, CONTEXT.level] = memory["anchor"] + memory["mean"]
        rows[:, CONTEXT.deviation] = np.sqrt(memory["variance"])
        rows[:, CONTEXT.spreads] = np.sqrt(state.memory[:, -2 * VIEWS :].numpy())
        rows[:, CONTEXT.identity] = np.arange(1, len(rows) + 1)
        rows[:, CONTEXT.peers] = self.neighbour + 1
        rows[:, CONTEXT.weights] = state.weight.numpy().reshape(len(rows), -1)
        rows[memory["heard"] < _LEAST_HEARD] = 0.0
        return rows


def _silent(_what: str, _share: float) -> None:
    pass


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataFileError(f"{out}: exists and is not an empty folder, expected a new one for the bundle")


def _usable(recording: Recording) -> Recording:
    rows = len(recording)
    if rows < LEAST_ROWS:
        raise DataFileError(
            f"{recording.path}: got {rows} rows of {len(recording.sensors)} sensors, expected at least"
            f" {LEAST_ROWS} rows of normal operation; record for longer, or use the"
            " universal model, which needs no training"
        )
    if not np.isfinite(recording.values).any():
        raise DataFileError(f"{recording.path}: no sensor has a single value, expected readings of normal operation")
    keep = slice(max(0, rows - RECENT_TICKS), rows)
    return dataclasses.replace(
        recording,
        values=recording.values[keep],
        time_ns=recording.time_ns[keep],
        timestamp=None if recording.timestamp is None else recording.timestamp[keep],
        run=None if recording.run is None else recording.run[keep],
        label=None if recording.label is None else recording.label[keep],
    )


def _tick_of(recording: Recording) -> float | None:
    """The usual time between two rows, where timestamps tell it."""
    if recording.timestamp is None:
        return None
    step_s = float(np.median(np.diff(recording.time_ns))) / 1e9
    return step_s if 1e-3 <= step_s <= 86_400.0 else None


def _still(history: Recording) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the sensors that never change, and of those that are never there."""
    known = np.isfinite(history.values)
    low = np.where(known, history.values, np.inf).min(0)
    high = np.where(known, history.values, -np.inf).max(0)
    empty = ~known.any(0)
    return (
        tuple(np.array(history.sensors)[(low == high) & ~empty].tolist()),
        tuple(np.array(history.sensors)[empty].tolist()),
    )


def _split(history: Recording) -> tuple[list[Values], list[Values]]:
    """First three quarters and last quarter of the rows, each cut where the run changes; slivers are left out."""
    border = int(len(history) * (1.0 - _HELD_OUT))
    training: list[Values] = []
    held_out: list[Values] = []
    for _, rows in history.runs():
        for low, high, part in (
            (rows.start, min(rows.stop, border), training),
            (max(rows.start, border), rows.stop, held_out),
        ):
            if high - low > _SKIPPED_TICKS:
                part.append(history.values[low:high])
    if not training or not held_out:
        raise DataFileError(
            f"{history.path}: runs of a few rows only, expected runs of at least {2 * _SKIPPED_TICKS} rows"
        )
    return training, held_out


def _fine_tune(
    network: HybridNetwork, training: Sequence[Values], plant: _Plant, options: SiteOptions, begun: float, say: Say
) -> float:
    say("fine-tuning", 0.2)
    prepared = prepare([History(options.name, part, plant.neighbour) for part in training])
    left_s = max(1.0, 0.6 * options.time_budget_s - (time.monotonic() - begun))

    def report(p: Progress) -> None:
        done = min(1.0, max(p.step / _MOST_STEPS, p.elapsed_s / left_s))
        say(f"fine-tuning: held-out loss {p.relative_loss:.3f} of linear", 0.3 + 0.4 * done)

    return fit(
        network,
        prepared,
        seed=options.seed,
        budget_s=left_s,
        learning_rate=_LEARNING_RATE,
        most_steps=_MOST_STEPS,
        check_every=10,
        report=report,
    )


@torch.no_grad()
def _learned_state(step: HybridStep, parts: Sequence[Values], plant: _Plant) -> State:
    """What is known after all parts: levels and experts go on from run to run, the recent past does not."""
    state = State.start(len(plant.sensors))
    context = np.zeros((len(plant.sensors), CONTEXT_WIDTH), np.float32)
    for part in parts:
        state = _new_run(state)
        for _, after in _ticks(step, part, plant, context, state):
            state = after
    return state


def _new_run(state: State) -> State:
    """Forget the recent past only."""
    at = MEMORY.index("mean")
    zero = torch.zeros_like(state.h)
    return state._replace(lags=state.memory[:, at : at + 1].expand_as(state.lags).clone(), h=zero, c=zero.clone())


def _ticks(
    step: HybridStep, values: Values, plant: _Plant, context: NDArray[np.float32], state: State
) -> Iterator[tuple[Tick, State]]:
    table, rows = torch.from_numpy(plant.neighbour), torch.from_numpy(context)
    age = torch.zeros(len(plant.sensors))
    for value in torch.from_numpy(values.astype(np.float32)):
        missing = (~torch.isfinite(value)).to(torch.int32)
        _, state, tick = step.advance(torch.nan_to_num(value), age, missing, table, rows, state)
        yield tick, state


@torch.no_grad()
def _with_spreads(
    step: HybridStep, parts: Sequence[Values], plant: _Plant, context: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Context with spreads from held-out readings: of the linear residuals first, then of what the network leaves."""
    context = context.copy()
    for first, pick in ((CONTEXT.spreads.start, _residual), (CONTEXT.spreads.start + VIEWS, _corrected)):
        found: list[NDArray[np.float32]] = []
        fresh: list[NDArray[np.bool_]] = []
        for part in parts:
            for count, (tick, _) in enumerate(_ticks(step, part, plant, context, State.start(len(plant.sensors)))):
                if count >= _SKIPPED_TICKS:
                    found.append(pick(tick))
                    fresh.append(tick.fresh.numpy() > 0.5)
        enough = (context[:, CONTEXT.known] > 0.5) & (np.sum(fresh, axis=0)[:, 0] >= _LEAST_HELD_OUT)
        measured = _winsorised_rms(np.stack(found), np.stack(fresh))
        context[enough, first : first + VIEWS] = measured[enough]
    return context


def _residual(tick: Tick) -> NDArray[np.float32]:
    return np.asarray(tick.residual.numpy(), np.float32)


def _corrected(tick: Tick) -> NDArray[np.float32]:
    return np.asarray(tick.corrected.numpy(), np.float32)


def _winsorised_rms(values: NDArray[np.float32], counts: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean square over time [T, N, V] -> [N, V]; what is beyond a few spreads is pulled in, since histories
    hold faults too."""
    share = np.maximum(counts.sum(0), 1)
    square = np.where(counts, values.astype(np.float64) ** 2, 0.0)
    mean = square.sum(0) / share
    for _ in range(3):
        mean = np.minimum(square, _WINSOR**2 * mean).sum(0) / share
    return np.asarray(np.sqrt(mean), np.float32)


def _write(
    out: Path,
    step: HybridStep,
    history: Recording,
    held_out: Sequence[Values],
    plant: _Plant,
    context: NDArray[np.float32],
    options: SiteOptions,
    loss: float,
) -> tuple[Bundle, NDArray[np.float32]]:
    """Write the bundle twice: first without scores, to have its model score the held-out part as a gateway would."""
    specs = tuple(
        SensorSpec(name, None, tuple(float(v) for v in row)) for name, row in zip(plant.sensors, context, strict=True)
    )
    edges = tuple(TrainedEdge(*edge) for edge in named_edges(plant.sensors, plant.neighbour, plant.strength))
    longest = max(held_out, key=len)
    repeats = -(-GOLDEN_TICKS // len(longest))
    inputs = golden_inputs(np.concatenate([longest] * repeats), plant.neighbour, context)
    origin = Origin(options.name, datetime.now(UTC).strftime("%Y.%m.%d"), data_digest([history.path]), options.seed)
    site = Site(options.tick_s, specs, edges, np.zeros((0, len(specs)), np.float32))
    exported = Exported.of(step, inputs)
    with tempfile.TemporaryDirectory() as folder:
        draft = write_exported(Path(folder) / "draft", exported, origin, "draft", site)
        scores = np.concatenate(
            [score_rows(OnnxDetector(draft), part, plant.neighbour, plant.sensors) for part in held_out]
        )
    calibrated = dataclasses.replace(site, scores=scores)
    card = _card(history, plant, context, scores, options, loss)
    return write_exported(out, exported, origin, card, calibrated), scores


def _card(
    history: Recording,
    plant: _Plant,
    context: NDArray[np.float32],
    scores: NDArray[np.float32],
    options: SiteOptions,
    loss: float,
) -> str:
    constant, empty = _still(history)
    known = int((context[:, CONTEXT.known] > 0.5).sum())
    odd = [f"* {len(constant)} sensors never changed: {', '.join(constant)}"] if constant else []
    odd += [f"* {len(empty)} sensors never had a value: {', '.join(empty)}"] if empty else []
    return _CARD.format(
        name=options.name,
        file=history.path.name,
        rows=len(history),
        sensors=len(plant.sensors),
        known=known,
        seed=options.seed,
        loss=loss,
        median=float(np.median(scores)),
        p99=float(np.quantile(scores, 0.99)),
        ticks=len(scores),
        odd="\n".join(odd) or "* nothing unusual in the history",
    )


_CARD = """# Site model {name}

Fine-tuned from the universal model on `{file}`: the last {rows} rows of {sensors} sensors ({known} of them heard often
enough to have constants). Seed {seed}.

## Measured

On the last quarter of the rows ({ticks} ticks), which nothing was fitted on, the score of a sensor and tick has median
{median:.2f} and 99th percentile {p99:.2f}. Loss after fine-tuning: {loss:.3f} of what the linear experts
leave. Nothing is known about detection: the history holds no labelled faults.

## The history

{odd}

## Limits

* It takes the history for normal. Rare faults in it do little harm; a fault that fills it is learned as normal.
* Operating conditions that the history does not hold look anomalous.
* A change that lasts several thousand ticks is slowly accepted as the new normal.
"""
