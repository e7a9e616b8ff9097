"""Have we seen this before? The distance to the nearest of a sample of normal states of a group.

A state is the levels now and their means over the last five and twenty ticks. The sample is drawn evenly from all
normal states so far (J. S. Vitter, "Random sampling with a reservoir", ACM TOMS 11, 1985), from recent ones more often
once more have passed than are to be remembered. What is quite normal for each sensor by itself and for its next value
given the last may still be a combination that never was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.saved import numbers_in

_SAMPLE = 512
_SHORT, _LONG = 5, 20  # ticks of the means
_APART = 40  # ticks before a state may be kept: the next ones resemble it too much to be compared with it
_FEWEST = 50

Floats32 = NDArray[np.float32]


class Prototypes:
    """A sample of states of ``width`` sensors."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._sample: Floats32 = np.zeros((0, 3 * width), np.float32)
        self._seen = 0
        self._norms: Floats32 = np.zeros(0, np.float32)
        self._random = np.random.default_rng(0)
        self._recent: Floats32 = np.zeros((_LONG, width), np.float32)  # a ring
        self._ticks = 0
        self._waiting: deque[Floats32] = deque()
        self._state: Floats32 | None = None

    def distance(self, level: Floats32) -> Floats32 | None:
        """Squared distance of each sensor [G] to the nearest normal state; None while too few of them are known."""
        self._recent[self._ticks % _LONG] = level
        self._ticks += 1
        short = self._recent[np.arange(self._ticks - _SHORT, self._ticks) % _LONG]
        self._state = np.concatenate((level, short.mean(0), self._recent.mean(0)))
        if len(self._sample) < _FEWEST or self._ticks < _LONG:
            return None
        nearest = int(np.argmin(self._norms - 2.0 * (self._sample @ self._state)))
        square = (self._sample[nearest] - self._state) ** 2
        return np.asarray(square.reshape(3, self._width).mean(0), np.float32)

    @property
    def state(self) -> Floats32 | None:
        """The state of this tick, for :meth:`learn` once it is known to be normal."""
        return self._state if self._ticks >= _LONG else None

    def learn(self, state: Floats32, remember: float, weight: float = 1.0) -> None:
        """Take a normal state into the sample, perhaps; the less likely, the lower its ``weight`` (up to 1)."""
        self._waiting.append(state)
        if len(self._waiting) <= _APART:
            return
        state = self._waiting.popleft()
        self._seen += 1
        if len(self._sample) < _SAMPLE:
            self._keep(np.append(self._sample, state[None], axis=0))
            return
        place = int(self._random.integers(min(self._seen, int(remember))))
        if place < _SAMPLE * weight:
            self._sample[place] = state
            self._norms[place] = float(state @ state)

    def forget_recent(self) -> None:
        """The stream was interrupted: means begin anew."""
        self._recent = np.zeros((_LONG, self._width), np.float32)
        self._ticks = 0
        self._waiting.clear()
        self._state = None

    def restate(self, shift: NDArray[np.float64], factor: NDArray[np.float64]) -> None:
        """As if all levels had been ``(level - shift) / factor``."""
        self._keep(((self._sample - np.tile(shift, 3)) / np.tile(factor, 3)).astype(np.float32))
        self._recent = ((self._recent - shift) / factor).astype(np.float32)
        self._waiting.clear()

    def extend(self, by: int) -> None:
        """Take in ``by`` more sensors, which are taken to have been at their mean so far."""
        states = self._sample.reshape(-1, 3, self._width)
        self._width += by
        self._keep(np.pad(states, ((0, 0), (0, 0), (0, by))).reshape(-1, 3 * self._width))
        self.forget_recent()

    def keep(self, which: NDArray[np.int64]) -> None:
        """Forget all sensors but those at the positions ``which``."""
        states = self._sample.reshape(-1, 3, self._width)
        self._width = len(which)
        self._keep(states[:, :, which].reshape(-1, 3 * self._width))
        self.forget_recent()

    def export(self) -> dict[str, NDArray[Any]]:
        """The sample, for saving."""
        return {"sample": self._sample.astype(np.float16), "sample_seen": np.array(self._seen)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        sample = numbers_in(state, "sample", (None, 3 * self._width))[-_SAMPLE:]
        self._seen = int(numbers_in(state, "sample_seen", (), least=0.0))
        self._keep(sample.astype(np.float32))

    def _keep(self, sample: Floats32) -> None:
        self._sample = sample
        self._norms = np.einsum("sf,sf->s", sample, sample)
