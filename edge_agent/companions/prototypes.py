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
SHORT, LONG = 5, 20
"""Ticks of the means."""
_APART = 40  # ticks before a state may be kept: the next ones resemble it too much to be compared with it
_FEWEST = 50

Floats32 = NDArray[np.float32]


class Prototypes:
    """A sample of states of ``width`` sensors."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._seen = 0
        self._random = np.random.default_rng(0)
        self._waiting: deque[Floats32] = deque()
        self._nearest: int | None = None  # place of the one found last
        self._keep(np.zeros((0, 3 * width), np.float32))

    def nearest(self, state: Floats32, *, search: bool = True) -> Floats32 | None:
        """The normal state that is nearest to ``state`` (both [3 G]); None while too few of them are known.

        Without ``search``: the one in the place that was found last, which is rarely much further away.
        """
        if self._count < _FEWEST:
            return None
        if search or self._nearest is None:
            self._nearest = int(np.argmin(self._halves[: self._count] - self._known @ state))
        return np.asarray(self._sample[self._nearest], np.float32)

    def learn(self, state: Floats32, remember: float, weight: float = 1.0) -> None:
        """Take a normal state into the sample, perhaps; the less likely, the lower its ``weight`` (up to 1)."""
        self._waiting.append(state)
        if len(self._waiting) <= _APART:
            return
        state = self._waiting.popleft()
        self._seen += 1
        if self._count < _SAMPLE:
            self._put(self._count, state)
            self._count += 1
            return
        place = int(self._random.integers(min(self._seen, int(remember))))
        if place < _SAMPLE * weight:
            self._put(place, state)

    def interrupted(self) -> None:
        """What comes next does not follow on what was learned last."""
        self._waiting.clear()

    def restate(self, shift: NDArray[np.float64], factor: NDArray[np.float64]) -> None:
        """As if all levels had been ``(level - shift) / factor``."""
        self._keep(((self._known - np.tile(shift, 3)) / np.tile(factor, 3)).astype(np.float32))
        self._waiting.clear()

    def extend(self, by: int) -> None:
        """Take in ``by`` more sensors, which are taken to have been at their mean so far."""
        states = self._known.reshape(-1, 3, self._width)
        self._width += by
        self._keep(np.pad(states, ((0, 0), (0, 0), (0, by))).reshape(-1, 3 * self._width))
        self._waiting.clear()

    def keep(self, which: NDArray[np.int64]) -> None:
        """Forget all sensors but those at the positions ``which``."""
        states = self._known.reshape(-1, 3, self._width)
        self._width = len(which)
        self._keep(states[:, :, which].reshape(-1, 3 * self._width))
        self._waiting.clear()

    def export(self) -> dict[str, NDArray[Any]]:
        """The sample, for saving."""
        return {"sample": self._known.astype(np.float16), "sample_seen": np.array(self._seen)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        sample = numbers_in(state, "sample", (None, 3 * self._width))[-_SAMPLE:]
        self._seen = int(numbers_in(state, "sample_seen", (), least=0.0))
        self._keep(sample.astype(np.float32))

    @property
    def _known(self) -> Floats32:
        return self._sample[: self._count]

    def _keep(self, known: Floats32) -> None:
        """The sample has its full size from the beginning, so that states can be put into it in place."""
        self._sample: Floats32 = np.zeros((_SAMPLE, 3 * self._width), np.float32)
        self._sample[: len(known)] = known
        self._halves: Floats32 = 0.5 * np.einsum("sf,sf->s", self._sample, self._sample)  # of the squared lengths
        self._count = len(known)
        self._nearest = None

    def _put(self, place: int, state: Floats32) -> None:
        self._sample[place] = state
        self._halves[place] = 0.5 * float(state @ state)
