"""The learned part: an LSTM cell shared by all sensors and graph attention over neighbours.

It judges what the linear experts leave: from the surprises of a sensor and of its neighbours, now and before, it says
how much more likely they are under a fault of this sensor than without one.

Units: everything that goes in is in deviations of the sensor or in usual spreads of its surprises, so one set of
weights serves any sensor of any plant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv

HIDDEN = 24
MESSAGE = 16
INPUT_LIMIT = 5.0
"""Standard deviations beyond which a level is clipped where it is an *input*. Residuals are never clipped."""
_JUDGE = 24
_OWN = 9
_SENT = 6
_ASKING = 3
_EDGE = 2
_TOLD = 4
_STEEPNESS = 3.0
_FURTHEST = 3e4
_CROSS = 0.3


@dataclass(frozen=True, slots=True)
class Observation:
    """One tick as the network sees it; columns [N, 1] unless said, 0 where missing.

    ``level``: the value in deviations from its mean, not clipped; ``surprise`` [N, 2]: residuals of the linear experts
    (forecast, relation) in units of their usual spread; ``fresh`` and ``usable``: 1 or 0; ``neighbour`` [N, K] indices
    (-1 = none); ``edge`` [N, K]: weight of each neighbour in the linear relation.
    """

    level: Tensor
    surprise: Tensor
    fresh: Tensor
    usable: Tensor
    neighbour: Tensor
    edge: Tensor


@dataclass(frozen=True, slots=True)
class Opinion:
    """Log likelihood ratio of a fault [N, 1], attention [N, K], and the state after the tick."""

    evidence: Tensor
    attention: Tensor
    h: Tensor
    c: Tensor


class NeighbourAttention(nn.Module):
    """GATv2 (Brody et al., 2022) over the K neighbours of each sensor.

    The parameters are those of :class:`torch_geometric.nn.GATv2Conv`. ``forward`` gathers the K neighbours (no scatter,
    so it exports to plain ONNX operators and costs O(N K)); ``on_edges`` runs torch-geometric itself over an edge list.
    A test holds them to the same numbers.
    """

    def __init__(self, sent: int, asking: int, edge: int, out: int) -> None:
        super().__init__()
        self.conv = GATv2Conv((sent, asking), out, heads=1, edge_dim=edge, add_self_loops=False, bias=False)

    def forward(
        self, sent: Tensor, asking: Tensor, edge: Tensor, neighbour: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Messages [N, out] and weights [N, K] that add up to 1, or to 0 where nobody is ``present`` [N, K]."""
        conv = self.conv
        value = conv.lin_l(sent)[torch.clamp(neighbour, min=0)]
        key = value + conv.lin_r(asking).unsqueeze(1) + conv.lin_edge(edge)
        logit = (nn.functional.leaky_relu(key, conv.negative_slope) * conv.att.view(1, 1, -1)).sum(-1)
        logit = logit + (present - 1.0) * 1e9
        power = torch.exp(logit - logit.amax(-1, keepdim=True)) * present
        # The strongest one present contributes exactly 1, so the bound only acts where nobody is present.
        weight = power / torch.clamp(power.sum(-1, keepdim=True), min=0.5)
        return (weight.unsqueeze(-1) * value).sum(1), weight

    def on_edges(self, sent: Tensor, asking: Tensor, edge: Tensor, neighbour: Tensor, present: Tensor) -> Tensor:
        """The messages by torch-geometric's own message passing."""
        target, slot = torch.nonzero(present > 0.5, as_tuple=True)
        index = torch.stack((neighbour[target, slot], target))
        message: Tensor = self.conv((sent, asking), index, edge_attr=edge[target, slot])
        return message


class HybridNetwork(nn.Module):
    """One tick of the LSTM-GNN. Untrained it finds a fault exactly as likely as none, whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = NeighbourAttention(HIDDEN + _SENT, HIDDEN + _ASKING, _EDGE, MESSAGE)
        self.gate_in = nn.Linear(_OWN + MESSAGE, 4 * HIDDEN)
        self.gate_state = nn.Linear(HIDDEN, 4 * HIDDEN, bias=False)
        self.joint = nn.Linear(HIDDEN + MESSAGE + _TOLD, _JUDGE)
        self.evidence = nn.Linear(_JUDGE, 1)
        with torch.no_grad():
            self.gate_in.bias[HIDDEN : 2 * HIDDEN] = 1.0  # remember at first (Jozefowicz et al., 2015)
            self.evidence.weight.zero_()
            self.evidence.bias.zero_()

    def forward(self, seen: Observation, h: Tensor, c: Tensor) -> Opinion:
        """Hear the neighbours, take the tick in, and judge."""
        level = torch.clamp(seen.level, -INPUT_LIMIT, INPUT_LIMIT)
        surprise = _squashed(seen.surprise)
        told = torch.cat((surprise, surprise.abs()), -1)
        sent = torch.cat((h, level, told, seen.usable), -1)
        edge = torch.stack((seen.edge, seen.edge.abs()), -1)
        usable = seen.usable.squeeze(-1)[torch.clamp(seen.neighbour, min=0)]
        present = torch.where(seen.neighbour >= 0, usable, torch.zeros_like(usable))
        message, attention = self.attention(sent, torch.cat((h, level, surprise), -1), edge, seen.neighbour, present)
        both = _CROSS * surprise.prod(-1, keepdim=True)
        own = torch.cat((level, told, both, seen.fresh, seen.usable, _squashed(seen.level)), -1)
        h, c = self._cell(torch.cat((own, message), -1), h, c)
        joint = torch.tanh(self.joint(torch.cat((h, message, told), -1)))
        return Opinion(_STEEPNESS * self.evidence(joint), attention, h, c)

    def _cell(self, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = torch.split(self.gate_in(given) + self.gate_state(h), HIDDEN, dim=-1)
        c_next = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c_next), c_next


class NoOpinion(nn.Module):
    """In the place of a network: finds a fault as likely as none, and costs nothing."""

    def forward(self, seen: Observation, h: Tensor, c: Tensor) -> Opinion:
        """No evidence, no attention, and the state as it is."""
        return Opinion(torch.zeros_like(seen.level), torch.zeros_like(seen.edge), h, c)


def _squashed(value: Tensor) -> Tensor:
    """Logarithmic, with its sign: a surprise of a thousand spreads tells little more than one of a hundred."""
    return torch.sign(value) * torch.log1p(torch.clamp(value.abs(), max=_FURTHEST))
