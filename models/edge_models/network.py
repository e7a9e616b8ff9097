"""The learned part: an LSTM cell shared by all sensors and graph attention over neighbours.

It corrects the linear experts.

Units: everything that goes in or out is in deviations of the sensor or of its linear residuals, so one set of weights
serves any sensor of any plant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv

HIDDEN = 32
MESSAGE = 16
_OWN = 7
_SENT = 5
_EDGE = 2
_REACH = 1.0
"""Largest correction in spreads of the linear residual: the network refines, it cannot excuse a large deviation."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One tick as the network sees it; columns [N, 1] unless said, clipped, 0 where missing.

    ``level``: the value in deviations from its mean; ``change`` since the tick before; ``surprise`` [N, 2]: residuals
    of the two linear experts in units of their spread; ``fresh`` and ``usable``: 1 or 0; ``age`` in ticks;
    ``neighbour`` [N, K] indices (-1 = none); ``edge`` [N, K]: weight of each neighbour in the linear relation.
    """

    level: Tensor
    change: Tensor
    surprise: Tensor
    fresh: Tensor
    usable: Tensor
    age: Tensor
    neighbour: Tensor
    edge: Tensor


@dataclass(frozen=True, slots=True)
class Opinion:
    """Corrections [N, 1] to the linear forecast and relation, attention [N, K], and the state after the tick."""

    forecast: Tensor
    relation: Tensor
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
    """One tick of the LSTM-GNN. Starts as a correction of exactly 0, so untrained it *is* the linear experts."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = NeighbourAttention(HIDDEN + _SENT, HIDDEN, _EDGE, MESSAGE)
        self.gate_in = nn.Linear(_OWN + MESSAGE, 4 * HIDDEN)
        self.gate_state = nn.Linear(HIDDEN, 4 * HIDDEN, bias=False)
        self.forecast = nn.Linear(HIDDEN, 1)
        self.relation_hidden = nn.Linear(HIDDEN + MESSAGE, HIDDEN)
        self.relation = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            self.gate_in.bias[HIDDEN : 2 * HIDDEN] = 1.0  # remember at first (Jozefowicz et al., 2015)
            for head in (self.forecast, self.relation):
                head.weight.zero_()
                head.bias.zero_()

    def forward(self, seen: Observation, h: Tensor, c: Tensor) -> Opinion:
        """Correct both estimates from the state of a tick ago and the neighbours now; then take the tick in."""
        sent, edge, present = self._sent(seen, h)
        message, attention = self.attention(sent, h, edge, seen.neighbour, present)
        forecast = _REACH * torch.tanh(self.forecast(h))
        joint = torch.tanh(self.relation_hidden(torch.cat((h, message), -1)))
        relation = _REACH * torch.tanh(self.relation(joint))
        h_next, c_next = self._cell(seen, message, h, c)
        return Opinion(forecast, relation, attention, h_next, c_next)

    def _sent(self, seen: Observation, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Only the *forecast* surprise is sent on: the relation surprise of a neighbour was computed from this very
        # sensor's reading and would leak it into its own leave-one-out estimate.
        surprise = seen.surprise[:, :1]
        sent = torch.cat((h, seen.level, seen.change, surprise, seen.fresh, seen.usable), -1)
        edge = torch.stack((seen.edge, seen.edge.abs()), -1)
        usable = seen.usable.squeeze(-1)[torch.clamp(seen.neighbour, min=0)]
        present = torch.where(seen.neighbour >= 0, usable, torch.zeros_like(usable))
        return sent, edge, present

    def _cell(self, seen: Observation, message: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        age = torch.log1p(seen.age)
        own = torch.cat((seen.level, seen.change, seen.surprise, seen.fresh, seen.usable, age, message), -1)
        i, f, g, o = torch.split(self.gate_in(own) + self.gate_state(h), HIDDEN, dim=-1)
        c_next = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c_next), c_next
