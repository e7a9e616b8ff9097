"""Fitting the network: recordings are run through the experts once, then chunks of many sensors are unrolled.

The experts have no parameters, so what they make of a recording is computed once (:func:`prepare`). Training then only
unrolls the network: chunks of ``BURN_IN`` ticks to fill the LSTM state and ``LENGTH`` ticks that count, of all
recordings side by side as one graph with no edges between them. Loss: Huber on what is left of the linear surprise.
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

from edge_models.hybrid import HybridStep
from edge_models.network import HIDDEN, HybridNetwork, Observation
from edge_models.online import INPUT_LIMIT
from edge_models.state import CONTEXT_WIDTH, NEIGHBOURS, State

BURN_IN = 24
LENGTH = 48
_HUBER = 3.0
_SENSORS_IN_BATCH = 1500
_CHUNKS_IN_BATCH = 64
_VALIDATION_SHARE = 0.2
_CHECKS_WITHOUT_GAIN = 5
_ATTACKED_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class History:
    """Normal readings of one plant: ``values`` [T, N] (NaN = missing), neighbours [N, K], context rows [N, D]."""

    name: str
    values: NDArray[np.float64]
    neighbour: NDArray[np.int64]
    context: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the network sees of one history, tick by tick, stacked along time [T, N, …], and what it should explain."""

    name: str
    own: Tensor
    edge: Tensor
    surprise: Tensor
    warm: Tensor
    neighbour: Tensor

    @property
    def ticks(self) -> int:
        return len(self.own)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training is: steps so far, validation loss relative to the linear experts alone, best so far, seconds."""

    step: int
    relative_loss: float
    best: float
    elapsed_s: float


@torch.no_grad()
def prepare(histories: Sequence[History], corrupt: np.random.Generator | None = None) -> list[Prepared]:
    """Run histories through the experts, all side by side as one graph with no edges between them.

    ``corrupt`` takes values and neighbours away first, as real gateways lose them.
    """
    parts = [_intact(h) if corrupt is None else _corrupted(h, corrupt) for h in histories]
    longest = max(len(h.values) for h in histories)
    values = torch.cat([_padded(part[0], longest, math.nan) for part in parts], 1)
    ages = torch.cat([_padded(part[1], longest, 0.0) for part in parts], 1)
    table = _beside([torch.from_numpy(part[2]) for part in parts])
    context = torch.cat([_context(h) for h in histories])
    step, state = HybridStep().eval(), State.start(values.shape[1])
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for value, age in zip(values, ages, strict=True):
        missing = (~torch.isfinite(value)).to(torch.int32)
        _, state, tick = step.advance(torch.nan_to_num(value), age, missing, table, context, state)
        seen = tick.seen
        own = torch.cat((seen.level, seen.change, seen.surprise, seen.fresh, seen.usable, seen.age), -1)
        rows.append((own.half(), seen.edge.half(), tick.surprise.clamp(-100, 100).half(), tick.warm.bool()))
    columns = [torch.stack(column) for column in zip(*rows, strict=True)]
    found, offset = [], 0
    for history, part in zip(histories, parts, strict=True):
        ticks, sensors = history.values.shape
        own, edge, surprise, warm = (column[:ticks, offset : offset + sensors] for column in columns)
        found.append(Prepared(history.name, own, edge, surprise, warm, torch.from_numpy(part[2])))
        offset += sensors
    return found


def _intact(history: History) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    return history.values, np.zeros(history.values.shape, np.float32), history.neighbour


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
    learning_rate: float = 2e-3,
    most_steps: int = 100_000,
    check_every: int = 25,
    batch_sensors: int = _SENSORS_IN_BATCH,
    report: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Train ``network`` in place; returns the best validation loss relative to the linear experts (1 = no gain).

    The last fifth of each history is held out; the weights that were best there are kept. Stops after ``budget_s``
    seconds, ``most_steps`` steps, or when validation has not improved for some checks. With the step limit reached
    first, the same seed gives the same weights. A batch has chunks of about ``batch_sensors`` sensors in all, which
    decides how much memory is needed.
    """
    generator = np.random.default_rng(seed)
    training = [_Chunks(h, 0, h.ticks - int(h.ticks * _VALIDATION_SHARE)) for h in histories]
    held_out = [_Chunks(h, h.ticks - int(h.ticks * _VALIDATION_SHARE), h.ticks) for h in histories]
    training = [c for c in training if c.starts > 0]
    validation = _batch(
        [c for c in held_out if c.starts > 0] or training, np.random.default_rng(seed + 1), batch_sensors, 2
    )
    if validation is None:
        return 1.0
    _, first = _relative(network, validation)
    best, kept, since = first, _copy(network), 0
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
    begun = clock()
    for step in range(1, most_steps + 1):
        spent = clock() - begun
        share = max(step / most_steps, spent / budget_s if math.isfinite(budget_s) else 0.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / 20) * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)) + 0.02)
        batch = _batch(training, generator, batch_sensors)
        assert batch is not None
        optimizer.zero_grad()
        loss = _loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        over = spent > budget_s or step == most_steps
        if step % check_every == 0 or over:
            _, now = _relative(network, validation)
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
    """Where chunks may start in one history."""

    history: Prepared
    begin: int
    end: int

    @property
    def starts(self) -> int:
        return self.end - self.begin - BURN_IN - LENGTH


@dataclass(frozen=True, slots=True)
class _Batch:
    """Chunks of several histories side by side: [L, M, …] with one neighbour table [M, K]."""

    own: Tensor
    edge: Tensor
    surprise: Tensor
    warm: Tensor
    neighbour: Tensor


def _batch(chunks: Sequence[_Chunks], generator: np.random.Generator, wanted: int, batches: int = 1) -> _Batch | None:
    """Chunks at random places until ``batches`` times ``wanted`` sensors are reached; histories weigh alike."""
    if not chunks:
        return None
    parts: list[tuple[Prepared, int]] = []
    sensors = 0
    while sensors < batches * wanted and len(parts) < batches * _CHUNKS_IN_BATCH:
        chunk = chunks[int(generator.integers(len(chunks)))]
        parts.append((chunk.history, chunk.begin + int(generator.integers(chunk.starts + 1))))
        sensors += chunk.history.own.shape[1]
    length = BURN_IN + LENGTH

    def beside(pick: Callable[[Prepared], Tensor]) -> Tensor:
        return torch.cat([pick(h)[at : at + length] for h, at in parts], 1)

    return _Batch(
        _attacked(beside(lambda h: h.own).float(), generator),
        beside(lambda h: h.edge).float(),
        beside(lambda h: h.surprise).float(),
        beside(lambda h: h.warm).float(),
        _beside([history.neighbour for history, _ in parts]),
    )


def _attacked(own: Tensor, generator: np.random.Generator) -> Tensor:
    """Falsify what the network is shown of some sensors for a while, but not what it has to explain.

    A network that is only asked to predict learns to follow a sensor wherever it goes, and explains an attack away.
    Here it has to say what the reading would have been.
    """
    length, sensors, _ = own.shape
    own = own.clone()
    for sensor in np.flatnonzero(generator.random(sensors) < _ATTACKED_SHARE):
        begin = int(generator.integers(length - 4))
        end = min(length, begin + int(generator.integers(2, length)))
        shift, surprise = generator.normal(0.0, 3.0), generator.normal(0.0, 3.0, 2)
        fade = np.exp(-np.arange(end - begin) / generator.choice([3.0, 30.0, 1e9]))
        own[begin:end, sensor, 0] += float(shift)
        own[begin, sensor, 1] += float(shift)
        own[begin:end, sensor, 2:4] += torch.from_numpy((fade[:, None] * surprise).astype(np.float32))
    own[..., :4] = torch.clamp(own[..., :4], -INPUT_LIMIT, INPUT_LIMIT) * own[..., 4:5]
    return own


def _unroll(network: HybridNetwork, batch: _Batch) -> Tensor:
    """What is left of the surprise after the corrections, [LENGTH, M, 2]."""
    sensors = batch.own.shape[1]
    h, c = torch.zeros(sensors, HIDDEN), torch.zeros(sensors, HIDDEN)
    left = []
    for tick in range(len(batch.own)):
        level, change, s_f, s_r, fresh, usable, age = torch.split(batch.own[tick], 1, -1)
        seen = Observation(
            level, change, torch.cat((s_f, s_r), -1), fresh, usable, age, batch.neighbour, batch.edge[tick]
        )
        opinion = network(seen, h, c)
        h, c = opinion.h, opinion.c
        if tick >= BURN_IN:
            left.append(batch.surprise[tick] - torch.cat((opinion.forecast, opinion.relation), -1))
    return torch.stack(left)


def _loss(network: HybridNetwork, batch: _Batch) -> Tensor:
    return _mean_huber(_unroll(network, batch), batch)


def _mean_huber(left: Tensor, batch: _Batch) -> Tensor:
    weight = batch.warm[BURN_IN:].expand_as(left)
    loss = torch.nn.functional.huber_loss(left, torch.zeros_like(left), delta=_HUBER, reduction="none")
    return (loss * weight).sum() / torch.clamp(weight.sum(), min=1.0)


@torch.no_grad()
def _relative(network: HybridNetwork, batch: _Batch) -> tuple[float, float]:
    base = float(_mean_huber(batch.surprise[BURN_IN:], batch))
    return base, float(_loss(network, batch)) / max(base, 1e-9)


def _copy(network: HybridNetwork) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _corrupted(
    history: History, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    """Outages of a tenth of the sensors, single losses, every fifth sensor three times slower, neighbours left out."""
    values, neighbour = history.values.copy(), history.neighbour.copy()
    ticks, sensors = values.shape
    age = np.zeros(values.shape, np.float32)
    values[generator.random(values.shape) < 0.01] = np.nan
    for sensor in np.flatnonzero(generator.random(sensors) < 0.1):
        begin = int(generator.integers(ticks))
        values[begin : begin + int(generator.integers(5, 100)), sensor] = np.nan
    for sensor in np.flatnonzero(generator.random(sensors) < 0.2):
        phase = (np.arange(ticks) + int(generator.integers(3))) % 3
        source = np.maximum(np.arange(ticks) - phase, 0)
        values[:, sensor], age[:, sensor] = values[source, sensor], phase
    neighbour[generator.random((sensors, NEIGHBOURS)) < 0.3] = -1
    return values, age, neighbour
