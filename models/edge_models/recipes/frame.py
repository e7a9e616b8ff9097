"""A member by the contract of ``docs/reference/bundle.md``: any order of sensors, some missing, some unknown.

::

    value[N] ─► level ─► scatter by context ─► plant order[S] ─► member ─► gather by context ─► score[N], expected[N]
                            (identity 1..S; 0 = unknown)

``context`` holds one number, the identity of the sensor. Readings go to the place that the sensor had in training, and
what the member says of that place comes back. A sensor that is not there stands at its mean; one that nobody trained
on scores 0 and is expected where it is. What the member carries for the plant as a whole is kept in every sensor's row,
since sensors may leave; all rows hold the same, so any that has lived takes it on.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_agent.bundle.manifest import StateSpec
from edge_models.recipes.members import Member
from edge_models.recipes.plant import INPUT_LIMIT, LEVEL_LIMIT, Normal, Values

CONTEXT_WIDTH = 1
_LARGEST = 2e15
_LEAST = -1e30


class PlantStep(nn.Module):
    """``(value, age, quality, neighbour, context, *state) -> (expected, scale, score, attention, *next state)``.

    Inputs and outputs as in the contract; states in the order of :attr:`states`. ``influence`` [S, S] is how much the
    estimate of a sensor depends on each other sensor, and becomes the attention.
    """

    mean: Tensor
    deviation: Tensor
    influence: Tensor

    def __init__(self, member: Member, normal: Normal, influence: Values) -> None:
        super().__init__()
        self.member = member
        self.sensors = len(normal.mean)
        # Row 0 is that of all unknown sensors.
        self.register_buffer("mean", _with_unknown(normal.mean, 0.0))
        self.register_buffer("deviation", _with_unknown(normal.deviation, 1.0))
        self.register_buffer("influence", torch.tensor(np.pad(influence, ((1, 0), (1, 0))), dtype=torch.float32))
        specs = [StateSpec("memory", (2,)), StateSpec("lags", (member.lags,))]
        self.states = (*specs, StateSpec("plant", (member.hidden,))) if member.hidden else tuple(specs)

    def start(self, sensors: int) -> tuple[Tensor, ...]:
        """The state of ``sensors`` rows before the first tick."""
        return tuple(torch.full((sensors, *spec.shape), spec.init) for spec in self.states)

    def forward(
        self, value: Tensor, age: Tensor, quality: Tensor, neighbour: Tensor, context: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """Score the tick and move the state on."""
        heard, before, lags = state[0][:, 0], state[0][:, 1], state[1]
        identity = torch.clamp(context[:, 0], 0.0, float(self.sensors)).to(torch.int64)
        sound = (quality == 0) & (value.abs() < _LARGEST)  # NaN compares as False
        value = torch.where(sound, value, torch.zeros_like(value))
        mean, deviation = self.mean[identity], self.deviation[identity]
        level = torch.clamp((value - mean) / deviation, -LEVEL_LIMIT, LEVEL_LIMIT)
        level = torch.where(sound, level, lags[:, 0])
        now = torch.clamp(level, -INPUT_LIMIT, INPUT_LIMIT).unsqueeze(-1)
        first = (sound & (heard < 0.5)).unsqueeze(-1)
        lags = torch.where(first, now.expand_as(lags), lags)

        judgement, after = self.member(
            self._scatter(identity, level.unsqueeze(-1)).squeeze(-1).unsqueeze(0),
            self._scatter(identity, lags).unsqueeze(0),
            _shared(heard, state[2:]),
        )
        score, expected, scale = (_gather(identity, item.squeeze(0)) for item in judgement)
        known = identity > 0
        fresh = sound & (age < 0.5)
        one = torch.ones_like(heard)
        heard = heard + torch.where(fresh, one, torch.zeros_like(one))
        counted = known & (heard > float(self.member.warmup))
        score = torch.where(counted, torch.where(fresh, score, before), torch.zeros_like(score))
        memory = torch.stack((torch.clamp(heard, max=LEVEL_LIMIT), score), -1)
        states = [memory, torch.cat((now, lags[:, :-1]), -1)]
        states += [after.expand_as(before_it) for before_it in state[2:]]
        return (
            torch.where(known, mean + deviation * expected, value),
            torch.where(known, deviation * scale, one),
            torch.where(sound, score, torch.zeros_like(score)),
            self._attention(identity, neighbour),
            *states,
        )

    def _scatter(self, identity: Tensor, rows: Tensor) -> Tensor:
        """Rows [N, W] at the places of their sensors [S, W]; 0, which is the mean, where a sensor is missing."""
        table = torch.zeros(self.sensors + 1, rows.shape[1])
        return torch.scatter(table, 0, identity.unsqueeze(-1).expand_as(rows), rows)[1:]

    def _attention(self, identity: Tensor, neighbour: Tensor) -> Tensor:
        other = identity[torch.clamp(neighbour, min=0)]
        weight = self.influence[identity.unsqueeze(-1), other]
        return torch.where(neighbour >= 0, weight, torch.zeros_like(weight))


def identities(sensors: int) -> NDArray[np.float32]:
    """Context rows [S, 1] of the trained sensors in trained order."""
    return np.arange(1, sensors + 1, dtype=np.float32)[:, None]


def _with_unknown(values: Values, unknown: float) -> Tensor:
    return torch.tensor(np.concatenate(([unknown], values)), dtype=torch.float32)


def _gather(identity: Tensor, values: Tensor) -> Tensor:
    return torch.cat((torch.zeros(1), values))[identity]


def _shared(heard: Tensor, state: tuple[Tensor, ...]) -> Tensor:
    """The plant's own state [1, H] out of any row that has lived; 0 before any has."""
    if not state:
        return torch.zeros(1, 0)
    lived = (heard > 0.5).unsqueeze(-1)
    highest = torch.where(lived, state[0], torch.full_like(state[0], _LEAST)).amax(0, keepdim=True)
    return torch.where(highest > 0.5 * _LEAST, highest, torch.zeros_like(highest))
