"""What flows from a source to the graph: a :class:`Batch` holds the readings of one frame, in columns.

A frame is what arrived in one piece (an MQTT message, a block of Modbus registers, a SenML pack). Columns rather
than one object a reading, because a reading may cost no more than a few microseconds (``benchmarks/``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class Quality(IntFlag):
    """Why a reading is not to be taken at face value. Zero means good. Flags add up."""

    GOOD = 0
    BAD = 1 << 0  # the device or the protocol itself says so
    NOT_FINITE = 1 << 1  # NaN or infinite
    OUT_OF_RANGE = 1 << 2  # outside the sensor's `min` and `max`
    RATE = 1 << 3  # changed faster than the sensor's `max_rate`
    STUCK = 1 << 4  # has not changed for the sensor's `stuck_after`
    FUTURE = 1 << 5  # source time too far ahead; arrival time was used instead
    PAST = 1 << 6  # source time too far back; arrival time was used instead
    STALE = 1 << 7  # nothing has arrived for the sensor's `stale_after`


UNUSABLE = Quality.BAD | Quality.NOT_FINITE | Quality.OUT_OF_RANGE | Quality.RATE
"""With one of these a value is not shown to the model: the sensor counts as missing.

What changed too fast is believed once it has been there for as long as the change should have taken.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one frame of one source.

    ``sensors``: names, one a reading; sources that send the same layout again pass the same tuple object.
    ``values``: floats of the same length, in the unit the device speaks; NaN where the device gave none.
    ``source_time_ns``: when the device measured (UTC, ns since 1970): one for all, one a reading, or None.
    ``arrival_ns``: when the frame arrived (monotonic clock).
    ``quality``: flags that the device or protocol gave: one for all or one a reading.
    """

    sensors: tuple[str, ...]
    values: Sequence[float] | NDArray[np.float64]
    arrival_ns: int
    source_time_ns: int | Sequence[int | None] | None = None
    quality: int | Sequence[int] = 0

    def __len__(self) -> int:
        return len(self.sensors)
