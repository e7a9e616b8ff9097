"""Down-sampled readings as compressed blocks: what a plant's own model is trained on later.

A block holds some minutes of all sensors. Each sensor's values stand one after the other, each as the bits that differ
from the one before (T. Pelkonen et al., "Gorilla: a fast, scalable, in-memory time series database", VLDB 2015), bytes
of one weight together, under zlib: slow sensors then cost a fraction of a byte a reading.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_agent.clock import NS_PER_S
from edge_agent.errors import StoreError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.options import Duration, Options

_MOST_BYTES = 2_000_000  # of a block before compression: thousands of sensors must not need tens of megabytes
_LEVEL = 6


class ReadingsOptions(Options):
    """Readings kept for training; off unless ``every`` is given."""

    every: Duration | None = Field(
        default=None,
        gt=0,
        description="Keep the readings of all sensors so often, such as the tick's period to train a model of this "
        "plant. Default: they are not kept.",
    )
    block: Duration = Field(
        default=3600.0,
        gt=0,
        le=86_400,
        description="Readings are written together once in this time, which spares the card; those not written yet are "
        "lost with the power.",
    )


@dataclass(frozen=True, slots=True)
class ReadingRows:
    """Readings [T, N] of the same sensors; NaN where there was none. ``alarm`` [T]: a process incident was open."""

    sensors: tuple[str, ...]
    time_ns: NDArray[np.int64]
    values: NDArray[np.float32]
    alarm: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def layout(self) -> str:
        """Name of this list of sensors."""
        return layout_id(self.sensors)


class ReadingSampler:
    """Takes a row every so often, and gives out blocks of rows."""

    def __init__(self, options: ReadingsOptions, every_s: float, most_bytes: int = _MOST_BYTES) -> None:
        self._every_ns = round(every_s * NS_PER_S)
        self._block_ns = round(options.block * NS_PER_S)
        self._most_bytes = min(most_bytes, _MOST_BYTES)
        self._slot = -1
        self._sensors: tuple[str, ...] = ()
        self._times: list[int] = []
        self._alarms: list[bool] = []
        self._values: list[NDArray[np.float32]] = []

    def take(self, snapshot: Snapshot, *, alarm: bool) -> ReadingRows | None:
        """See one tick; a block when one is full, or the sensors have changed."""
        slot = snapshot.time_ns // self._every_ns
        if slot == self._slot or not len(snapshot):
            return None
        self._slot = slot
        full = self.finish() if self._must_end(snapshot) else None
        self._sensors = snapshot.sensors
        self._times.append(snapshot.time_ns)
        self._alarms.append(alarm)
        self._values.append(np.where(snapshot.usable, snapshot.value, np.nan).astype(np.float32))
        return full

    def finish(self) -> ReadingRows | None:
        """The rows taken since the last block, if any."""
        if not self._times:
            return None
        rows = ReadingRows(
            self._sensors, np.array(self._times, np.int64), np.stack(self._values), np.array(self._alarms, np.bool_)
        )
        self._times, self._alarms, self._values = [], [], []
        return rows

    def _must_end(self, snapshot: Snapshot) -> bool:
        if not self._times:
            return False
        too_large = (len(self._times) + 1) * len(snapshot) * 4 > self._most_bytes
        # A clock that was set back ends a block too: times within one only grow.
        in_time = 0 < snapshot.time_ns - self._times[0] < self._block_ns
        return too_large or not in_time or snapshot.sensors != self._sensors


def layout_id(sensors: tuple[str, ...]) -> str:
    """A short name for this list of sensors, always the same."""
    return hashlib.sha256("\n".join(sensors).encode()).hexdigest()[:16]


def encode(rows: ReadingRows) -> bytes:
    """The compressed block, without the sensors' names."""
    bits = rows.values.T.copy(order="C").view(np.uint32)
    bits[:, 1:] ^= bits[:, :-1].copy()
    steps = np.diff(rows.time_ns, prepend=rows.time_ns[:1])
    planes = np.ascontiguousarray(bits.view(np.uint8).reshape(-1, 4).T)
    return zlib.compress(
        rows.time_ns[:1].tobytes() + steps.tobytes() + np.packbits(rows.alarm).tobytes() + planes.tobytes(), _LEVEL
    )


def decode(body: bytes, sensors: tuple[str, ...], count: int) -> ReadingRows:
    """What :func:`encode` was given. :raises StoreError: it is damaged."""
    bits_of_alarm, values = -(-count // 8), 4 * count * len(sensors)
    expected = 8 + 8 * count + bits_of_alarm + values
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(body, expected + 1)
    except zlib.error as error:
        raise StoreError(f"a block of readings is damaged: {error}") from error
    if len(raw) != expected:
        raise StoreError(f"a block of readings is damaged: got {len(raw)} bytes or more, expected {expected}")
    first, steps = np.frombuffer(raw, np.int64, 1), np.frombuffer(raw, np.int64, count, 8)
    alarm = np.unpackbits(np.frombuffer(raw, np.uint8, bits_of_alarm, 8 + 8 * count), count=count).astype(np.bool_)
    planes: NDArray[Any] = np.frombuffer(raw, np.uint8, values, expected - values).reshape(4, -1)
    bits = np.ascontiguousarray(planes.T).view(np.uint32).reshape(len(sensors), count)
    bits = np.bitwise_xor.accumulate(bits, axis=1)
    return ReadingRows(sensors, first + np.cumsum(steps), np.ascontiguousarray(bits.view(np.float32).T), alarm)
