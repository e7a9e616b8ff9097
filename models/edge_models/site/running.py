"""Recordings through the step, tick by tick, several of them side by side as one graph with no edges between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edge_models.hybrid import HybridStep, Tick
from edge_models.site.sample import Values
from edge_models.state import CONTEXT_WIDTH, MEMORY, State


def ticks(
    step: HybridStep, parts: Sequence[Values], neighbour: NDArray[np.int64], context: NDArray[np.float32], state: State
) -> Iterator[tuple[Tick, State]]:
    """The tick and the state after it, sensors of all ``parts`` [T, N] one below the other; NaN after a part's end."""
    count, longest = len(neighbour), max(map(len, parts))
    table = torch.from_numpy(
        np.concatenate([np.where(neighbour < 0, -1, neighbour + at * count) for at in range(len(parts))])
    )
    rows = torch.from_numpy(np.tile(context, (len(parts), 1)))
    age, ended = torch.zeros(count * len(parts)), np.full(count, np.nan)
    for tick in range(longest):
        row = np.concatenate([part[tick] if tick < len(part) else ended for part in parts])
        value = torch.from_numpy(row.astype(np.float32))
        missing = (~torch.isfinite(value)).to(torch.int32)
        _, state, seen = step.advance(torch.nan_to_num(value), age, missing, table, rows, state)
        yield seen, state


@torch.no_grad()
def learned_state(step: HybridStep, parts: Sequence[Values], neighbour: NDArray[np.int64]) -> State:
    """What is known after all parts: levels and experts go on from part to part, the recent past does not."""
    state = State.start(len(neighbour))
    context = np.zeros((len(neighbour), CONTEXT_WIDTH), np.float32)
    for part in parts:
        state = _new_part(state, part[0])
        for _, after in ticks(step, [part], neighbour, context, state):
            state = after
    return state


def _new_part(state: State, first: Values) -> State:
    """Forget the recent past only: it begins as if the first reading had been there all along."""
    offset = torch.from_numpy(first.astype(np.float32)).unsqueeze(-1) - state.memory[:, [MEMORY.index("anchor")]]
    at = MEMORY.index("mean")
    usual = state.memory[:, at : at + 1]
    lags = torch.where(torch.isfinite(offset), offset, usual).expand_as(state.lags).clone()
    zero = torch.zeros_like(state.h)
    return state._replace(lags=lags, h=zero, c=zero.clone())
