"""Recipe ``ensemble``: several members in one graph, combined by the mean of their standardised log scores.

Raw scores would let the loudest member drown the rest. Logarithms are standardised for each sensor on held-out normal
readings, averaged, and brought back to a score of about 1 on normal readings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edge_models.recipes.members import Judgement, Member, judge
from edge_models.recipes.plant import Plant, Values

LOG_FLOOR = 1e-2
"""Added to a score before its logarithm: how far below normal a reading is says nothing."""
_LARGEST_LOG = 13.0
_LEAST_SPREAD = 0.05


class EnsembleMember(Member):
    """``weight`` [M, S] of each member's log score and ``shift`` [S], so that the mean on normal readings is 1."""

    weight: Tensor
    shift: Tensor

    def __init__(self, members: Sequence[Member], weight: Values, shift: Values) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.lags = max(member.lags for member in members)
        self.hidden = sum(member.hidden for member in members)
        self.warmup = max(member.warmup for member in members)
        self._widths = [member.hidden for member in members]
        self.register_buffer("weight", torch.tensor(weight, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))

    @classmethod
    def measured(cls, members: Sequence[Member], plant: Plant) -> EnsembleMember:
        """With weights from the members' scores on the held-out parts."""
        logs = [
            np.concatenate([np.log(judge(member, part)[0] + LOG_FLOOR) for part in plant.held_out])
            for member in members
        ]
        spread = np.stack([log.std(0) for log in logs]) + _LEAST_SPREAD
        weight = spread.mean(0) / (spread * len(members))
        combined = np.sum([w * log for w, log in zip(weight, logs, strict=True)], axis=0)
        return cls(members, weight, -np.log(np.exp(combined).mean(0)))

    def forward(self, level: Tensor, past: Tensor, hidden: Tensor) -> tuple[Judgement, Tensor]:
        """Judge with every member; expected is their mean by precision."""
        found = []
        after = []
        for member, own in zip(self.members, torch.split(hidden, self._widths, -1), strict=True):
            judgement, state = member(level, past[:, :, : member.lags], own)
            found.append(judgement)
            after.append(state)
        score, expected, scale = (torch.stack(column) for column in zip(*found, strict=True))
        logs = (self.weight.unsqueeze(1) * torch.log(score + LOG_FLOOR)).sum(0) + self.shift
        precision = scale**-2.0
        total = precision.sum(0)
        joint = Judgement(
            torch.exp(torch.clamp(logs, max=_LARGEST_LOG)),
            (expected * precision).sum(0) / total,
            (scale * precision).sum(0) / total,
        )
        return joint, torch.cat(after, -1)
