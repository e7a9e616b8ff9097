"""What the decision may ask about sensors; the pipeline answers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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

    def history(self, sensor: int, ticks: int) -> list[float | None]:
        """Its last values, oldest first; None where missing."""
        ...
