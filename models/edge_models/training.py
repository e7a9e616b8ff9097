"""Fitting the network: faults are put into normal recordings, and it learns to tell where.

The experts have no parameters, so what they make of a falsified recording is computed once (:func:`prepare`). Training
then only unrolls the network: chunks of ``BURN_IN`` ticks to fill the LSTM state and ``LENGTH`` ticks that count, of
all recordings side by side as one graph with no edges between them. Half of the chunks are around a fault. Loss: cross
entropy of "this sensor is at fault now". What the network gives is log odds less those of a fault in such a chunk: the
log likelihood ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_models.drills import drilled
from edge_models.hybrid import HybridStep
from edge_models.network import HIDDEN, HybridNetwork, Observation
from edge_models.state import CONTEXT_WIDTH, NEIGHBOURS, State

BURN_IN = 24
LENGTH = 80
_AFTERMATH = 11
"""Ticks after a fault that count as neither: the experts are still upset."""
_SENSORS_IN_BATCH = 1500
_CHUNKS_IN_BATCH = 64
_VALIDATION_SHARE = 0.2
_CHECKS_WITHOUT_GAIN = 8
_LARGEST = 3e4  # what a half-precision number holds


@dataclass(frozen=True, slots=True)
class History:
    """Normal readings of one plant: ``values`` [T, N] (NaN = missing), neighbours [N, K], context rows [N, D]."""

    name: str
    values: NDArray[np.float64]
    neighbour: NDArray[np.int64]
    context: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the network sees of one falsified history, stacked along time [T, N, …], and the truth.

    ``fault`` [T, N]: a fault acts on the sensor; ``counts`` [T, N]: it is certain whether one does.
    """

    name: str
    own: Tensor
    edge: Tensor
    fault: Tensor
    counts: Tensor
    neighbour: Tensor

    @property
    def ticks(self) -> int:
        return len(self.own)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training is: steps so far, held-out loss relative to knowing nothing, best so far, seconds."""

    step: int
    relative_loss: float
    best: float
    elapsed_s: float


@torch.no_grad()
def prepare(histories: Sequence[History], generator: np.random.Generator, damaged: bool = False) -> list[Prepared]:
    """Put faults into histories and run them through the experts, all side by side as one graph with no edges between.

    ``damaged`` takes readings and neighbours away as well, as real gateways lose them.
    """
    parts = [_falsified(history, generator, damaged) for history in histories]
    longest = max(len(part.values) for part in parts)
    values = torch.cat([_padded(part.values, longest, math.nan) for part in parts], 1)
    ages = torch.cat([_padded(part.age, longest, 0.0) for part in parts], 1)
    table = _beside([torch.from_numpy(part.neighbour) for part in parts])
    context = torch.cat([_context(history) for history in histories])
    step, state = HybridStep().eval(), State.start(values.shape[1])
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for value, age in zip(values, ages, strict=True):
        missing = (~torch.isfinite(value)).to(torch.int32)
        _, state, tick = step.advance(torch.nan_to_num(value), age, missing, table, context, state)
        seen = tick.seen
        own = torch.cat((seen.level, seen.surprise, seen.fresh, seen.usable), -1)
        counts = (tick.warm * tick.fresh).squeeze(-1) > 0.5
        rows.append((own.clamp(-_LARGEST, _LARGEST).half(), seen.edge.half(), counts))
    columns = [torch.stack(column) for column in zip(*rows, strict=True)]
    found, offset = [], 0
    for history, part in zip(histories, parts, strict=True):
        ticks, sensors = part.values.shape
        own, edge, counts = (column[:ticks, offset : offset + sensors] for column in columns)
        fault = torch.from_numpy(part.fault)
        counts = counts & (fault | ~_lately(fault))
        found.append(Prepared(history.name, own, edge, fault, counts, torch.from_numpy(part.neighbour)))
        offset += sensors
    return found


@dataclass(frozen=True, slots=True)
class _Falsified:
    """``values``, ``age`` and where a ``fault`` acts [T, N], and the neighbours [N, K]."""

    values: NDArray[np.float64]
    age: NDArray[np.float32]
    fault: NDArray[np.bool_]
    neighbour: NDArray[np.int64]


def _falsified(history: History, generator: np.random.Generator, damaged: bool) -> _Falsified:
    values, fault = drilled(history.values, generator)
    whole = _Falsified(values, np.zeros(values.shape, np.float32), fault, history.neighbour)
    return _damaged(whole, generator) if damaged else whole


def _lately(fault: Tensor) -> Tensor:
    """Where a fault acted on the sensor within the last ticks [T, N]."""
    found = fault.clone()
    for ticks in range(1, min(_AFTERMATH, len(fault) - 1) + 1):
        found[ticks:] |= fault[:-ticks]
    return found


def _padded(array: NDArray[np.float64] | NDArray[np.float32], ticks: int, filler: float) -> Tensor:
    rest = np.full((ticks - len(array), array.shape[1]), filler, np.float32)
    return torch.from_numpy(np.concatenate((array.astype(np.float32), rest)))


def _beside(tables: Sequence[Tensor]) -> Tensor:
    """Neighbour tables of several graphs as the table of one."""
    shifted, offset = [], 0
    for table in tables:
        shifted.append(torch.where(table >= 0, table + offset, table))
        offset += len(table)
    return torch.cat(shifted)


def _context(history: History) -> Tensor:
    if history.context is None:
        return torch.zeros(history.values.shape[1], CONTEXT_WIDTH)
    return torch.from_numpy(history.context)


def fit(
    network: HybridNetwork,
    histories: Sequence[Prepared],
    *,
    seed: int,
    budget_s: float,
    held_out: Sequence[Prepared] = (),
    learning_rate: float = 4e-3,
    most_steps: int = 100_000,
    check_every: int = 25,
    batch_sensors: int = _SENSORS_IN_BATCH,
    report: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Train ``network`` in place; returns the best held-out loss relative to knowing nothing (1 = no gain).

    ``held_out`` histories decide which weights are kept; without any, the last fifth of each one does. Stops after
    ``budget_s`` seconds, ``most_steps`` steps, or when the held-out loss has not improved for some checks. With the
    step limit reached first, the same seed gives the same weights. A batch has chunks of about ``batch_sensors``
    sensors in all, which decides how much memory is needed. Histories that are too short for faults change nothing.
    """
    generator = np.random.default_rng(seed)
    share = 0.0 if held_out else _VALIDATION_SHARE
    training = _chunks([(h, 0, h.ticks - int(h.ticks * share)) for h in histories])
    judging = _chunks(
        [(h, 0, h.ticks) for h in held_out] or [(h, h.ticks - int(h.ticks * share), h.ticks) for h in histories]
    )
    validation = _batch(judging or training, np.random.default_rng(seed + 1), batch_sensors, 2)
    if validation is None or validation.prior is None:
        return 1.0
    prior = validation.prior
    base = float(_cross_entropy(torch.zeros_like(validation.fault[BURN_IN:]), validation, prior))
    best, kept, since = _relative(network, validation, prior, base), _copy(network), 0
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
    begun = clock()
    for step in range(1, most_steps + 1):
        spent = clock() - begun
        done = max(step / most_steps, spent / budget_s if math.isfinite(budget_s) else 0.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / 15) * (0.5 + 0.5 * math.cos(math.pi * min(done, 1.0)) + 0.02)
        batch = _batch(training, generator, batch_sensors)
        assert batch is not None
        optimizer.zero_grad()
        loss = _cross_entropy(_unroll(network, batch), batch, prior)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        over = spent > budget_s or step == most_steps
        if step % check_every == 0 or over:
            now = _relative(network, validation, prior, base)
            since = 0 if now < best - 1e-4 else since + 1
            if now < best:
                best, kept = now, _copy(network)
            if report is not None:
                report(Progress(step, now, best, clock() - begun))
            if over or since >= _CHECKS_WITHOUT_GAIN:
                break
    network.load_state_dict(kept)
    return best


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Where chunks may start in one history, and the ticks in which somebody is at fault."""

    history: Prepared
    begin: int
    end: int
    faults: NDArray[np.int64]

    @property
    def starts(self) -> int:
        return self.end - self.begin - BURN_IN - LENGTH

    def start(self, generator: np.random.Generator) -> int:
        """Anywhere, or every second time where a fault is among the ticks that count."""
        last = self.begin + self.starts
        if len(self.faults) and generator.random() < 0.5:
            fault = int(generator.choice(self.faults))
            return min(max(fault - BURN_IN - int(generator.integers(LENGTH)), self.begin), last)
        return int(generator.integers(self.begin, last + 1))


def _chunks(stretches: Sequence[tuple[Prepared, int, int]]) -> list[_Chunks]:
    found = []
    for history, begin, end in stretches:
        (faults,) = np.nonzero(history.fault[begin:end].any(1).numpy())
        found.append(_Chunks(history, begin, end, faults + begin))
    return [chunks for chunks in found if chunks.starts > 0]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Chunks of several histories side by side: [L, M, …] with one neighbour table [M, K]."""

    own: Tensor
    edge: Tensor
    fault: Tensor
    counts: Tensor
    neighbour: Tensor

    @property
    def prior(self) -> float | None:
        """Log odds of a fault where it counts; None without any fault, or with nothing else."""
        counts = self.counts[BURN_IN:]
        faults, total = float((self.fault[BURN_IN:] * counts).sum()), float(counts.sum())
        return math.log(faults / (total - faults)) if 0.0 < faults < total else None


def _batch(chunks: Sequence[_Chunks], generator: np.random.Generator, wanted: int, batches: int = 1) -> _Batch | None:
    """Chunks at random places until ``batches`` times ``wanted`` sensors are reached; histories weigh alike."""
    if not chunks:
        return None
    parts: list[tuple[Prepared, int]] = []
    sensors = 0
    while sensors < batches * wanted and len(parts) < batches * _CHUNKS_IN_BATCH:
        chunk = chunks[int(generator.integers(len(chunks)))]
        parts.append((chunk.history, chunk.start(generator)))
        sensors += chunk.history.own.shape[1]
    length = BURN_IN + LENGTH

    def beside(pick: Callable[[Prepared], Tensor]) -> Tensor:
        return torch.cat([pick(h)[at : at + length] for h, at in parts], 1).float()

    return _Batch(
        beside(lambda h: h.own),
        beside(lambda h: h.edge),
        beside(lambda h: h.fault),
        beside(lambda h: h.counts),
        _beside([history.neighbour for history, _ in parts]),
    )


def _unroll(network: HybridNetwork, batch: _Batch) -> Tensor:
    """Log likelihood ratios [LENGTH, M]."""
    sensors = batch.own.shape[1]
    h, c = torch.zeros(sensors, HIDDEN), torch.zeros(sensors, HIDDEN)
    found = []
    for tick in range(len(batch.own)):
        own = batch.own[tick]
        level, fresh, usable = own[:, :1], own[:, 3:4], own[:, 4:5]
        opinion = network(Observation(level, own[:, 1:3], fresh, usable, batch.neighbour, batch.edge[tick]), h, c)
        h, c = opinion.h, opinion.c
        if tick >= BURN_IN:
            found.append(opinion.evidence.squeeze(-1))
    return torch.stack(found)


def _cross_entropy(evidence: Tensor, batch: _Batch, prior: float) -> Tensor:
    fault, counts = batch.fault[BURN_IN:], batch.counts[BURN_IN:]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(evidence + prior, fault, reduction="none")
    return (loss * counts).sum() / torch.clamp(counts.sum(), min=1.0)


@torch.no_grad()
def _relative(network: HybridNetwork, batch: _Batch, prior: float, base: float) -> float:
    return float(_cross_entropy(_unroll(network, batch), batch, prior)) / base


def _copy(network: HybridNetwork) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _damaged(part: _Falsified, generator: np.random.Generator) -> _Falsified:
    """Outages of a tenth of the sensors, single losses, every fifth sensor three times slower, neighbours left out."""
    values, age, neighbour = part.values, part.age, part.neighbour.copy()
    ticks, sensors = values.shape
    values[generator.random(values.shape) < 0.01] = np.nan
    for sensor in np.flatnonzero(generator.random(sensors) < 0.1):
        begin = int(generator.integers(ticks))
        values[begin : begin + int(generator.integers(5, 100)), sensor] = np.nan
    for sensor in np.flatnonzero(generator.random(sensors) < 0.2):
        phase = (np.arange(ticks) + int(generator.integers(3))) % 3
        source = np.maximum(np.arange(ticks) - phase, 0)
        values[:, sensor], age[:, sensor] = values[source, sensor], phase
    neighbour[generator.random((sensors, NEIGHBOURS)) < 0.3] = -1
    return _Falsified(values, age, part.fault, neighbour)
