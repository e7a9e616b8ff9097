"""One tick of the detector, as it is exported: normalise, estimate twice, judge, score, learn.

::

    value ─► level ─► z ─┬─► own past + neighbours' past ─► forecast ─┐  linear experts, learned on the gateway
                         └─► neighbours now ──────────────► relation ─┤  (the sensor's own reading is left out)
                                                                      ▼
                                residuals / their usual spread = surprises ─┬─► squares ───────────────┬─► score
                                                                            ├─► LSTM-GNN ─► likelihood │
                                                                            │   ratio of a fault ──────┘
                                                                            └─► suspicion ─► pace of all learning

Values may be 1e6 with small variation: everything is computed on the difference from ``anchor``, the first value seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_models.network import INPUT_LIMIT, HybridNetwork, NoOpinion, Observation
from edge_models.online import (
    MOST_SUSPICIOUS,
    OUTLIER,
    Experts,
    Pace,
    compress,
    floor_of,
    learn_level,
    learn_spread,
    pace_under,
)
from edge_models.state import CONTEXT, EXPERTS, FEATURES, NEIGHBOURS, OWN_LAGS, VIEWS, Memory, State

WARMUP_TICKS = 120
_LARGEST = 2e15
_KNOWN_TICKS = 2000.0
_KNOWN_PRIOR = 1e-3
_SPREAD_FLOOR = 1e-3
_LEAST_RESIDUAL = 1e-3
_MOST_EVIDENCE = 11.0
_LEAST_EVIDENCE = -8.0
_DOUBTFUL_TICKS = 50.0
_OVERFLOW = 1e6
_FREE_TICKS = 40.0
_FREE = 1e12
_FEW_CHANGES = 20.0
_MOVING_SHARE = 0.1


class Verdict(NamedTuple):
    """What one tick gives: ``expected``, ``scale``, ``score`` [N], ``attention`` [N, K]."""

    expected: Tensor
    scale: Tensor
    score: Tensor
    attention: Tensor


@dataclass(frozen=True, slots=True)
class Tick:
    """What training needs of one tick: what the network saw, and where [N, 1] it counts (``warm``, ``fresh``: 1 or 0).

    ``residual`` [N, 2] is what the experts leave, in the sensor's deviations; ``view`` [N, 3] what each view says
    before it is divided by its usual spread: both residuals in rough spreads, and the root of the likelihood ratio.
    """

    seen: Observation
    warm: Tensor
    residual: Tensor
    view: Tensor
    fresh: Tensor


class HybridStep(nn.Module):
    """``(inputs, state) -> (Verdict, next State)``: the module that is exported.

    Without a ``network`` the two experts judge alone. ``only``: the place of the one view that judges (forecast,
    relation, network); None: all of them, as it should be.
    """

    def __init__(self, network: HybridNetwork | None = None, pace: Pace | None = None, only: int | None = None) -> None:
        super().__init__()
        self.network: nn.Module = network or NoOpinion()
        self.pace = pace or Pace()
        heard = EXPERTS if network is None else VIEWS
        self.shares = [1.0 / heard if only is None and view < heard else float(only == view) for view in range(VIEWS)]

    def forward(
        self, value: Tensor, age: Tensor, quality: Tensor, neighbour: Tensor, context: Tensor, state: State
    ) -> tuple[Verdict, State]:
        """Score the tick and move the state on."""
        verdict, after, _ = self.advance(value, age, quality, neighbour, context, state)
        return verdict, after

    def advance(
        self, value: Tensor, age: Tensor, quality: Tensor, neighbour: Tensor, context: Tensor, state: State
    ) -> tuple[Verdict, State, Tick]:
        """As ``forward``, and what training wants to know about the tick."""
        pace = self.pace
        reading = _read(value, age, quality, neighbour)
        state, experts, begin = _begin(state, reading, context, pace)
        m = Memory(*torch.split(state.memory, 1, dim=-1))
        z, level, past, deviation = _normalise(reading, m, state.lags)

        feature = _features(level, past, reading)
        residual = z - experts.estimate(feature)
        rough = torch.cat((m.rough_forecast, m.rough_relation), -1)
        own = _is_young(m) * residual * residual / (m.learned + 1.0)
        rough_spread = torch.sqrt(rough + own) + _SPREAD_FLOOR
        surprise = reading.fresh * torch.clamp(residual / rough_spread, -_OVERFLOW, _OVERFLOW)
        usual = torch.cat((m.usual_forecast, m.usual_relation), -1)
        usual_spread = torch.sqrt(usual) + _LEAST_RESIDUAL / rough_spread
        normal = torch.clamp(surprise / usual_spread, -_OVERFLOW, _OVERFLOW)

        seen = _observe(reading, z, normal, experts)
        opinion = self.network(seen, state.h, state.c)
        doubt = torch.exp(0.5 * torch.clamp(opinion.evidence, _LEAST_EVIDENCE, _MOST_EVIDENCE))
        squares = torch.cat((normal, doubt / (torch.sqrt(m.usual_evidence) + _SPREAD_FLOOR)), -1) ** 2
        warm = (m.heard >= WARMUP_TICKS).to(z.dtype)
        now = warm * torch.minimum(compress(_weighted(squares, self.shares)), _evidence(m))
        score = warm * reading.usable * torch.where(reading.fresh > 0.5, now, m.score)

        # Suspicion listens to the experts alone: a network that is wrong must not stop them from learning.
        alone = warm * compress(_weighted(squares, _experts_of(self.shares)))
        lesson = _judge(m, reading, alone, warm * (1.0 - _is_young(m)), pace)
        experts = _teach(experts, feature, residual, surprise, reading, m, lesson, begin, pace)
        m = m._replace(changes=m.changes + _changed(m, reading, state.lags), score=score)
        memory = _remember(m, reading, lesson, (residual, rough), (surprise, usual), doubt, pace)
        newest = torch.cat((reading.value - m.anchor, state.lags[:, :-1]), -1)
        lags = torch.where(reading.fresh > 0.5, newest, state.lags)
        slot = neighbour.to(z.dtype) + 1.0
        after = State(memory, lags, slot, experts.weight, experts.inverse, opinion.h, opinion.c)

        estimate = m.anchor + m.mean + (z - residual) * deviation
        expected, scale = _blend(estimate, rough_spread * usual_spread * deviation)
        expected = torch.where(m.heard > 0.5, expected, reading.value)
        verdict = Verdict(expected.squeeze(-1), scale.squeeze(-1), score.squeeze(-1), opinion.attention)
        view = torch.cat((surprise, doubt), -1)
        return verdict, after, Tick(seen, warm, residual, view, reading.fresh)


def _weighted(squares: Tensor, shares: Sequence[float]) -> Tensor:
    """Squares of the views [N, 3] as one [N, 1]."""
    return (squares * torch.tensor(shares)).sum(-1, keepdim=True)


def _experts_of(shares: Sequence[float]) -> list[float]:
    """The shares without the network, of 1 in all; equal ones where the network judges alone."""
    experts = shares[:EXPERTS]
    total = sum(experts)
    return [*((share / total for share in experts) if total else [1.0 / EXPERTS] * EXPERTS), 0.0]


class _Reading(NamedTuple):
    """The inputs of a tick as columns; ``links`` [N, K] is 1 where ``source`` [N, K] is a neighbour, else 0."""

    value: Tensor
    age: Tensor
    usable: Tensor
    fresh: Tensor
    neighbour: Tensor
    source: Tensor
    links: Tensor


class _Begin(NamedTuple):
    """``restart`` [N, 1] is 1 where the experts' certainty starts again, from ``prior`` [N, 1]."""

    restart: Tensor
    prior: Tensor


class _Lesson(NamedTuple):
    """``calm`` [N, 1]: share of the learning pace that suspicion leaves; the other two go back to memory."""

    calm: Tensor
    suspicion: Tensor
    typical: Tensor


def _read(value: Tensor, age: Tensor, quality: Tensor, neighbour: Tensor) -> _Reading:
    raw, aged = value.unsqueeze(-1), age.unsqueeze(-1)
    sound = (quality == 0).unsqueeze(-1) & (raw.abs() < _LARGEST)  # NaN compares as False
    usable = sound.to(raw.dtype)
    fresh = usable * (aged < 0.5).to(raw.dtype)
    links = (neighbour >= 0).to(raw.dtype)
    raw = torch.where(sound, raw, torch.zeros_like(raw))
    return _Reading(raw, torch.clamp(aged, 0.0, 100.0), usable, fresh, neighbour, torch.clamp(neighbour, min=0), links)


def _begin(state: State, reading: _Reading, context: Tensor, pace: Pace) -> tuple[State, Experts, _Begin]:
    """Fill the rows of sensors that are heard for the first time, and follow neighbours that changed place."""
    first = reading.fresh * (state.memory[:, :1] < 0.5).to(reading.value.dtype)
    known = first * context[:, CONTEXT.known : CONTEXT.known + 1]
    level = torch.where(known > 0.5, context[:, CONTEXT.level : CONTEXT.level + 1], reading.value)
    deviation = context[:, CONTEXT.deviation : CONTEXT.deviation + 1]
    spreads = context[:, CONTEXT.spreads]
    zero, one = torch.zeros_like(level), torch.ones_like(level)
    ticks = _KNOWN_TICKS * known
    alive = (deviation > 10.0 * floor_of(level)).to(level.dtype)
    fresh_memory = torch.cat(
        (
            ticks,
            ticks,
            ticks * alive,
            level,
            zero,
            known * deviation * deviation,
            known,
            one,
            zero,
            known * spreads[:, :-1] ** 2,
            torch.where(known > 0.5, spreads[:, -1:] ** 2, one),
        ),
        -1,
    )
    memory = torch.where(first > 0.5, fresh_memory, state.memory)
    lags = torch.where(first > 0.5, (reading.value - level).expand_as(state.lags), state.lags)

    identity = context[:, CONTEXT.identity][reading.source] * reading.links
    now, before = torch.where(known > 0.5, identity, reading.neighbour.to(level.dtype) + 1.0), state.slot
    before = torch.where(known > 0.5, context[:, CONTEXT.peers], before)
    weight = torch.where(
        (known > 0.5).unsqueeze(-1),
        context[:, CONTEXT.weights].reshape(-1, EXPERTS, FEATURES),
        state.weight,
    )
    moved = (now != before).to(level.dtype).amax(-1, keepdim=True)
    same = ((now.unsqueeze(-1) == before.unsqueeze(-2)) & (now.unsqueeze(-1) > 0.5)).to(level.dtype)
    weight = torch.cat(
        (
            weight[:, :, :OWN_LAGS],
            weight[:, :, OWN_LAGS : OWN_LAGS + NEIGHBOURS] @ same.transpose(-1, -2),
            weight[:, :, OWN_LAGS + NEIGHBOURS :],
        ),
        -1,
    )
    restart = torch.maximum(first, moved * (1.0 - first))
    unsettled = reading.fresh * (memory[:, :1] <= pace.open_ticks).to(level.dtype)
    prior = torch.where(known > 0.5, _KNOWN_PRIOR, torch.full_like(level, pace.prior))
    begin = _Begin(torch.maximum(restart, unsettled), prior)
    return state._replace(memory=memory, lags=lags), Experts(weight, state.inverse), begin


def _normalise(reading: _Reading, m: Memory, lags: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The value in deviations from its mean: as it is, clipped, the clipped past [N, L]; and the deviation.

    While a sensor has hardly ever changed, the reading itself counts in the deviation, as one of all so far: then no
    reading is further out than the root of their number (Samuelson's inequality), and a valve that moves for the first
    time in ten minutes is remarkable, not a million deviations off.
    """
    step = reading.value - m.anchor - m.mean
    own = _is_young(m) * step * step / (m.learned + 1.0)
    deviation = torch.sqrt(m.variance + own) + floor_of(m.anchor)
    z = reading.usable * torch.clamp(step / deviation, -_OVERFLOW, _OVERFLOW)
    past = torch.clamp((lags - m.mean) / deviation, -INPUT_LIMIT, INPUT_LIMIT)
    return z, torch.clamp(z, -INPUT_LIMIT, INPUT_LIMIT), past, deviation


def _is_young(m: Memory) -> Tensor:
    """1 where a sensor has changed too rarely to say what is usual of it, as a pump that has just been switched."""
    enough = torch.clamp(_MOVING_SHARE * m.heard, min=_FEW_CHANGES)
    return (m.changes < enough).to(m.changes.dtype)


def _changed(m: Memory, reading: _Reading, lags: Tensor) -> Tensor:
    step = torch.abs(reading.value - m.anchor - lags[:, :1])
    return reading.fresh * (step > floor_of(m.anchor)).to(step.dtype)


def _evidence(m: Memory) -> Tensor:
    """The largest score that so few readings can justify: what happens once in n has a squared deviation of 2 ln n."""
    return torch.where(
        m.changes < _FEW_CHANGES, 2.0 * torch.log(m.learned + 2.0), torch.full_like(m.learned, _OVERFLOW)
    )


def _features(level: Tensor, past: Tensor, reading: _Reading) -> Tensor:
    """[N, 2, F]. Forecast: own past, all neighbours a tick ago. Relation: all neighbours now, the best ones before.

    Both have the same layout (lags, neighbours, one) so that one batched update serves them.
    """
    now = level.squeeze(-1)[reading.source] * reading.links
    before = past[:, 0][reading.source] * reading.links
    one = torch.ones_like(level)
    forecast = torch.cat((past, before, one), -1)
    relation = torch.cat((before[:, :OWN_LAGS], now, one), -1)
    return torch.stack((forecast, relation), 1)


def _observe(reading: _Reading, z: Tensor, surprise: Tensor, experts: Experts) -> Observation:
    return Observation(
        level=z,
        surprise=surprise,
        fresh=reading.fresh,
        usable=reading.usable,
        neighbour=reading.neighbour,
        edge=torch.clamp(experts.weight[:, 1, OWN_LAGS : OWN_LAGS + NEIGHBOURS], -2.0, 2.0),
    )


def _judge(m: Memory, reading: _Reading, now: Tensor, counts: Tensor, pace: Pace) -> _Lesson:
    """How suspicious the sensor and its neighbourhood are, and so how much may be learned from this tick."""
    heard = reading.fresh * counts
    suspicion = m.suspicion + heard * (torch.clamp(now, max=MOST_SUSPICIOUS) - m.suspicion) / pace.suspicion_ticks
    typical = m.typical + heard * (suspicion - m.typical) / pace.patience
    relative = suspicion / torch.clamp(m.typical, min=1.0)
    around = (relative.squeeze(-1)[reading.source] * reading.links).sum(-1, keepdim=True)
    local = torch.maximum(relative, (relative + around) / (1.0 + reading.links.sum(-1, keepdim=True)))
    open_minded = torch.maximum((m.heard < pace.guard_ticks).to(local.dtype), _is_young(m))
    calm = torch.maximum(pace_under(local, pace), open_minded)
    return _Lesson(calm, suspicion, typical)


def _teach(
    experts: Experts,
    feature: Tensor,
    residual: Tensor,
    surprise: Tensor,
    reading: _Reading,
    m: Memory,
    lesson: _Lesson,
    begin: _Begin,
    pace: Pace,
) -> Experts:
    settled = (m.heard >= pace.open_ticks).to(residual.dtype)
    doubt = OUTLIER / torch.clamp(surprise.abs(), min=OUTLIER)
    trust = torch.where(m.heard < pace.settle_ticks, torch.ones_like(doubt), doubt) * lesson.calm
    innovation = torch.clamp(residual, -2.0 * INPUT_LIMIT, 2.0 * INPUT_LIMIT)
    return experts.learn(
        feature,
        innovation,
        torch.clamp(trust, min=1e-4),
        reading.fresh * settled,
        begin.restart,
        begin.prior,
        pace.leak,
    )


def _remember(
    m: Memory,
    reading: _Reading,
    lesson: _Lesson,
    rough: tuple[Tensor, Tensor],
    usual: tuple[Tensor, Tensor],
    doubt: Tensor,
    pace: Pace,
) -> Tensor:
    """The scalars after the tick. ``rough`` and ``usual`` are residuals [N, 2] with their variances so far."""
    free, strict = torch.full_like(m.heard, _FREE), torch.full_like(m.heard, INPUT_LIMIT)
    pull = reading.fresh * lesson.calm
    rate = pull * torch.clamp(1.0 / (m.learned + 1.0), min=1.0 / pace.horizon)
    mean, variance = learn_level(
        reading.value - m.anchor,
        m.mean,
        m.variance,
        rate,
        floor_of(m.anchor),
        torch.where((m.heard < pace.open_ticks) | (_is_young(m) > 0.5), free, strict),
    )
    spreads = [
        _learn_spread_from(begin, residual, variance, m, pull, pace)
        for begin, (residual, variance) in ((pace.open_ticks, rough), (pace.settle_ticks, usual))
    ]
    return torch.cat(
        (
            m.heard + reading.fresh,
            m.learned + pull,
            m.changes,
            m.anchor,
            mean,
            variance,
            lesson.suspicion,
            lesson.typical,
            m.score,
            *spreads,
            _learn_evidence(m, doubt, pull, pace),
        ),
        -1,
    )


def _learn_spread_from(begin: float, residual: Tensor, variance: Tensor, m: Memory, pull: Tensor, pace: Pace) -> Tensor:
    """Spread of ``residual``, learned from tick ``begin`` on: before, what it is measured in has not settled."""
    since = torch.clamp(m.learned - begin + 1.0, min=1.0)
    rate = pull * (m.heard >= begin).to(pull.dtype) * torch.clamp(1.0 / since, min=1.0 / pace.horizon)
    limit = torch.where(
        (m.heard < begin + _FREE_TICKS) | (_is_young(m) > 0.5),
        torch.full_like(m.heard, 1e6),
        torch.full_like(m.heard, INPUT_LIMIT),
    )
    return learn_spread(torch.clamp(residual, -1e3, 1e3), variance, rate, limit)


def _learn_evidence(m: Memory, doubt: Tensor, pull: Tensor, pace: Pace) -> Tensor:
    """The usual likelihood ratio: 1 in theory, and so it counts as if it had been 1 for a while before."""
    since = torch.clamp(m.learned - WARMUP_TICKS, min=0.0) + _DOUBTFUL_TICKS
    rate = pull * (m.heard >= WARMUP_TICKS).to(pull.dtype) * torch.clamp(1.0 / since, min=1.0 / pace.horizon)
    return learn_spread(doubt, m.usual_evidence, rate, torch.full_like(doubt, INPUT_LIMIT))


def _blend(estimate: Tensor, usual: Tensor) -> tuple[Tensor, Tensor]:
    """Both estimates [N, 2] weighted by inverse variance, and the usual deviation from the result."""
    best = usual.amin(-1, keepdim=True)
    weight = (best / usual) ** 2  # relative to the better one: no overflow for tiny units
    total = weight.sum(-1, keepdim=True)
    first = estimate[:, :1]
    blended = first + (weight * (estimate - first)).sum(-1, keepdim=True) / total
    return blended, best * torch.sqrt(2.0 / total)
