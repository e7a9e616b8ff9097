"""What the decision may ask about sensors; the pipeline answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Relation:
    """How another sensor (an index) enters what is expected of one: ``share`` of all weights (0 to 1).

    ``pull``: by how much its readings now move the expectation from the usual, in the unit of the one.
    """

    sensor: int
    share: float
    pull: float


class SensorFacts(Protocol):
    """Answers by index in the current snapshot."""

    @property
    def monitored(self) -> NDArray[np.bool_]:
        """N flags: False where a sensor raises no incident itself."""
        ...

    def unit(self, sensor: int) -> str | None:
        """Unit of its values."""
        ...

    def weight(self, sensor: int) -> int:
        """-1, 0 or 1: steps by which its criticality moves the severity."""
        ...

    def readings(self, sensors: NDArray[np.int64], ticks: int) -> NDArray[np.float64]:
        """The last values [T, M] of ``sensors`` (M), at most ``ticks``, oldest first; NaN where missing."""
        ...

    def relations(self, sensor: int, most: int) -> list[Relation]:
        """The ``most`` sensors that weigh most in what is expected of it; empty where no relation is known."""
        ...

    def source(self, sensor: int) -> str | None:
        """Name of the source that speaks for it, None while none does."""
        ...
