"""Gradient training of an estimator: corrupted inputs, clean targets, early stopping on normal readings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from edge_models.recipes.plant import INPUT_LIMIT, Plant, Values

Say = Callable[[str, float], None]
_CHECK_EVERY = 50
_PATIENCE = 8
_VALIDATION_BLOCKS = 256
_LARGEST_NORM = 1.0
_CORRUPTED = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every recipe. The steps end training; ``time_budget_s`` only keeps a slow machine from hanging."""

    seed: int = 0
    time_budget_s: float = 300.0
    most_steps: int = 1_500
    batch: int = 64
    learning_rate: float = 3e-3
    say: Say | None = None

    def with_rate(self, learning_rate: float, batch: int | None = None) -> Settings:
        """The same with another learning rate and, where given, another batch."""
        return replace(self, learning_rate=learning_rate, batch=batch or self.batch)


class Trainable(nn.Module):
    """A module that can say how wrong it is on a block of ticks."""

    block: int

    def loss(self, seen: Tensor, clean: Tensor) -> Tensor:
        """Mean squared error over blocks [B, block, S]: ``seen`` is what it gets, ``clean`` what it is to estimate."""
        raise NotImplementedError


def fit(module: Trainable, plant: Plant, settings: Settings) -> float:
    """Train in place and keep the weights that were best on the validation part; their loss is returned.

    Ends after ``most_steps``, when validation has not improved for eight looks, or when the time is over.
    """
    begun = time.monotonic()
    generator = torch.Generator().manual_seed(settings.seed)
    training, validation = Blocks(plant.training, module.block), Blocks(plant.validation, module.block)
    checked = validation.at(torch.linspace(0, len(validation) - 1, min(len(validation), _VALIDATION_BLOCKS)).long())
    optimiser = torch.optim.Adam(module.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.most_steps, 0.05 * settings.learning_rate)
    best, weights, waited = _validated(module, checked), _copy(module), 0
    for step in range(1, settings.most_steps + 1):
        module.train()
        clean = training.at(torch.randint(len(training), (settings.batch,), generator=generator))
        loss = module.loss(corrupt(clean, generator), clean)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), _LARGEST_NORM)
        optimiser.step()
        schedule.step()
        if step % _CHECK_EVERY == 0 or step == settings.most_steps:
            found = _validated(module, checked)
            if found < best:
                best, weights, waited = found, _copy(module), 0
            else:
                waited += 1
            if settings.say is not None:
                settings.say(f"training: validation error {best:.4f}", step / settings.most_steps)
            if waited >= _PATIENCE or time.monotonic() - begun > settings.time_budget_s:
                break
    module.load_state_dict(weights)
    module.eval()
    return best


def corrupt(block: Tensor, generator: torch.Generator, share: float = _CORRUPTED) -> Tensor:
    """Give a tenth of the sensors of each block [B, T, S] the readings of another block, so that none is relied on."""
    other = block[torch.randperm(len(block), generator=generator)]
    chosen = torch.rand(len(block), 1, block.shape[2], generator=generator) < share
    return torch.where(chosen, other, block)


class Blocks:
    """All stretches of ``length`` ticks inside a part, clipped as inputs are; short parts are repeated at their start.

    Held once, whatever the length: stretches overlap.
    """

    def __init__(self, parts: Sequence[Values], length: int) -> None:
        long = [np.concatenate((np.repeat(p[:1], max(0, length - len(p)), axis=0), p)) for p in parts]
        sizes = np.array([len(part) for part in long])
        begins = np.cumsum(sizes) - sizes
        starts = [np.arange(begin, begin + size - length + 1) for begin, size in zip(begins, sizes, strict=True)]
        self._starts = torch.from_numpy(np.concatenate(starts))
        self._rows = torch.from_numpy(np.concatenate(long).clip(-INPUT_LIMIT, INPUT_LIMIT).astype(np.float32))
        self._steps = torch.arange(length)

    def __len__(self) -> int:
        return len(self._starts)

    def at(self, which: Tensor) -> Tensor:
        """The stretches with these numbers [B] -> [B, length, S]."""
        return self._rows[self._starts[which].unsqueeze(-1) + self._steps]


@torch.no_grad()
def _validated(module: Trainable, blocks: Tensor) -> float:
    module.eval()
    return float(module.loss(blocks, blocks))


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
