"""Readings into the rolling graph: whose they are, when they were taken, whether they can be believed.

Frames are only noted when they arrive (:meth:`Intake.take`, a few hundred nanoseconds a reading); all checks are done
once a tick on whole columns (:meth:`Intake.collect`). Nothing here judges the plant, only the reading.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S, Timeline
from edge_agent.contract import SourceOptions
from edge_agent.graph.rolling import NEVER_NS, RollingGraph
from edge_agent.intake.limits import Limits
from edge_agent.intake.options import IntakeOptions, SensorOptions
from edge_agent.intake.pending import Pending, Readings
from edge_agent.metrics import Counter, Metrics
from edge_agent.sample import Batch, Quality

_log = logging.getLogger(__name__)

_LARGEST = 1e18  # beyond it squares overflow single precision; no sensor means such a number
_MOST_NOTED = 50_000  # readings noted before they are worked off without waiting for the tick
_MOST_WAITING = 1_000_000  # readings that wait for a later tick (`tick.lateness`) before they are used early
_COUNTED = tuple(flag for flag in Quality if flag)


@dataclass(frozen=True, slots=True)
class Layout:
    """What became of the sensors of a frame: ``index`` in the graph (-1: not taken), and how many were refused."""

    index: list[int]
    complete: bool
    claimed: int
    over_limit: int


class SourcePort:
    """Where one source's frames enter. Names are resolved once for each layout (tuple of sensor names)."""

    __slots__ = ("_intake", "_options", "_takes_all", "layouts", "name", "readings")

    def __init__(self, intake: Intake, name: str, options: SourceOptions, readings: Counter) -> None:
        self._intake = intake
        self._options = options
        self._takes_all = "*" in options.include and not options.exclude
        self.name = name
        self.readings = readings
        self.layouts: dict[tuple[str, ...], Layout] = {}

    def layout(self, sensors: tuple[str, ...]) -> Layout:
        """Where the readings of a frame with ``sensors`` go."""
        found = self.layouts.get(sensors)
        if found is None:
            found = self._intake.resolve(self, [self._final_name(name) for name in sensors])
            if len(self.layouts) >= 50_000:  # a device that invents names must not eat the memory
                self.layouts.clear()
            self.layouts[sensors] = found
        return found

    def _final_name(self, name: str) -> str | None:
        full = self._options.prefix + name
        if self._takes_all:
            return self._options.rename.get(full, full)
        if not any(fnmatchcase(full, pattern) for pattern in self._options.include):
            return None
        if any(fnmatchcase(full, pattern) for pattern in self._options.exclude):
            return None
        return self._options.rename.get(full, full)


class Intake:
    """Takes in what the sources emit. ``options_for`` gives the options of a sensor by its name."""

    def __init__(
        self,
        graph: RollingGraph,
        timeline: Timeline,
        options: IntakeOptions,
        options_for: Callable[[str], SensorOptions],
        metrics: Metrics,
    ) -> None:
        self.limits = Limits(options_for, max(options.stale_after, 3 * timeline.period_ns / NS_PER_S))
        self._graph = graph
        self._timeline = timeline
        self._options = options
        self._metrics = metrics
        self._pending = Pending()
        self._ports: dict[str, SourcePort] = {}
        self._owner: dict[str, str] = {}
        # The graph's sensors in their order, then those whose first reading still waits for its tick.
        self._index: dict[str, int] = {}
        self._refused: set[str] = set()
        self._full = False
        self._stamped_ns = np.full(64, NEVER_NS)
        self._max_future_ns = int(options.max_future * NS_PER_S)
        self._max_past_ns = int(options.max_past * NS_PER_S)
        self._forget_ns = int(options.forget_after * NS_PER_S)
        self._previous_tick_ns = int(NEVER_NS)
        self._since_ns = timeline.now_ns()

    @property
    def pending(self) -> int:
        """Readings noted and not yet part of a tick."""
        return len(self._pending)

    def port(self, name: str, options: SourceOptions) -> SourcePort:
        """The entrance for the source ``name``."""
        port = SourcePort(self, name, options, self._metrics.readings.labels(name))
        self._ports[name] = port
        return port

    def close_port(self, name: str) -> None:
        """The source is gone; others may now speak for its sensors."""
        self._ports.pop(name, None)
        for sensor in [sensor for sensor, owner in self._owner.items() if owner == name]:
            del self._owner[sensor]
        self._forget_layouts()

    def owner(self, sensor: str) -> str | None:
        """Name of the source that speaks for ``sensor``; None where none has since the start."""
        return self._owner.get(sensor)

    def resolve(self, port: SourcePort, names: list[str | None]) -> Layout:
        """Indices for ``names``; a new sensor is given the next one, one that another source owns is refused."""
        wanted = [name for name in names if name is not None and self._may_speak(port.name, name)]
        room = max(0, self._options.max_sensors - len(self._index))
        new = [name for name in dict.fromkeys(wanted) if name not in self._index]
        if len(new) > room and not self._full:
            self._full = True  # said once: a device that invents names invents many
            _log.error("source %s: %s refused: intake.max_sensors is reached", port.name, ", ".join(new[room:][:5]))
        accepted = set(wanted) - set(new[room:])
        self._index.update(zip(new[:room], count(len(self._index))))
        self._owner.update((name, port.name) for name in accepted)
        index = [self._index[name] if name in accepted else -1 for name in names]
        claimed = sum(name is not None for name in names) - len(wanted)
        over_limit = sum(name not in accepted for name in wanted)
        return Layout(index, -1 not in index, claimed, over_limit)

    def take(self, port: SourcePort, batch: Batch) -> None:
        """Note one frame. :raises ValueError, TypeError: a fault of the adapter; nothing of the frame is noted."""
        if len(batch.values) != len(batch.sensors):
            raise ValueError(f"source {port.name}: {len(batch.sensors)} names but {len(batch.values)} values")
        layout = port.layout(batch.sensors)
        index, when, quality, arrival_ns = layout.index, batch.source_time_ns, batch.quality, int(batch.arrival_ns)
        port.readings.value += len(index)
        if len(index) == 1 and layout.complete and isinstance(quality, int) and (when is None or isinstance(when, int)):
            time_ns, flag, stamped = self._when(when, arrival_ns)
            self._pending.add_one(index[0], batch.values[0], time_ns, quality | flag, stamped)
        else:
            self._take_columns(batch, layout, arrival_ns)
            if not layout.complete:
                self._count_refused(port, layout)
        if self._pending.noted > _MOST_NOTED:
            self._relieve(arrival_ns)

    def absorb(self, until_ns: int) -> None:
        """Work off what is noted with pipeline time up to ``until_ns``; later readings stay for their tick."""
        readings = self._pending.take(until_ns)
        if len(readings) == 0:
            return
        self._join(int(readings.index.max()) + 1)
        readings = self._drop_old(readings)
        flags = readings.flags | self._check(readings)
        self._graph.update(readings.index, readings.value, flags, readings.time_ns)
        if flags.any():
            for flag in _COUNTED:
                if flagged := int(np.count_nonzero(flags & int(flag))):
                    self._metrics.quality.labels(str(flag.name).lower()).inc(flagged)

    def collect(self, tick_ns: int) -> None:
        """Bring the graph to ``tick_ns`` (pipeline time): readings in, stale and stuck sensors marked."""
        self.absorb(tick_ns)
        n = len(self._graph)
        graph, limits = self._graph, self.limits
        # A sensor known from before a restart has the same time to speak as one that has just fallen silent.
        heard_ns = np.maximum(graph.heard_ns[:n], self._since_ns)
        stale = tick_ns - heard_ns > limits.stale_ns[:n]
        stuck = graph.known[:n] & ~stale & (graph.fresh_ns[:n] - graph.changed_ns[:n] > limits.stuck_ns[:n])
        graph.flag(Quality.STALE, stale)
        graph.flag(Quality.STUCK, stuck)
        self._previous_tick_ns = tick_ns

    def expect(self, sensors: tuple[str, ...]) -> None:
        """Make room for sensors known from before; until they speak they count as missing."""
        for name in sensors:
            self._index.setdefault(name, len(self._index))
        self._join(len(self._index))

    def reset(self) -> None:
        """Forget all values, as at the start of another recording; sensors, owners and edges stay."""
        self.absorb(2**62)
        self._graph.forget_values()
        self._stamped_ns[:] = NEVER_NS

    def forget_silent(self, tick_ns: int) -> tuple[str, ...]:
        """Remove sensors that were not heard of for ``forget_after``; call between two ticks."""
        self.absorb(tick_ns)  # who speaks once a day may have done so just now
        n = len(self._graph)
        # A sensor known from before a restart that has not spoken since is counted from the restart.
        heard = np.maximum(self._graph.heard_ns[:n], self._since_ns)
        silent = np.flatnonzero(tick_ns - heard > self._forget_ns)
        names = tuple(self._graph.sensors[i] for i in silent)
        if names:
            self.remove(names)
        return names

    def remove(self, names: Iterable[str]) -> None:
        """Take sensors out of the graph; they come back when they speak again."""
        gone = tuple(names)
        self.absorb(2**62)  # what is noted carries indices that are about to change
        self._join(len(self._index))
        keep = self._graph.remove(gone)
        self._index = dict(self._graph.index)
        self.limits.keep(keep)
        self._stamped_ns[: len(keep)] = self._stamped_ns[keep]
        self._stamped_ns[len(keep) :] = NEVER_NS
        for name in gone:
            self._owner.pop(name, None)
        self._full = False
        self._forget_layouts()

    # -- inside ------------------------------------------------------------------------------------------------

    def _forget_layouts(self) -> None:
        for port in self._ports.values():
            port.layouts.clear()

    def _join(self, length: int) -> None:
        """Make the graph hold the first ``length`` sensors.

        A sensor joins at the tick of its first reading. Before, while that waits for its tick (``tick.lateness``), it
        would count as missing, and the detector would carry a state of it that depends on how long.
        """
        if length <= len(self._graph):
            return
        self._graph.add_all(islice(self._index, len(self._graph), length))
        self.limits.extend(self._graph.sensors)
        self._stamped_ns = _extended(self._stamped_ns, length)

    def _may_speak(self, source: str, sensor: str) -> bool:
        owner = self._owner.get(sensor)
        if owner is None or owner == source:
            return True
        if sensor not in self._refused:
            self._refused.add(sensor)
            _log.warning(
                "sensor %s: source %s sends it, but source %s already does; the first one is kept. "
                "Give one of them a `prefix` or leave the sensor out with `exclude`",
                sensor,
                source,
                owner,
            )
        return False

    def _take_columns(self, batch: Batch, layout: Layout, arrival_ns: int) -> None:
        count, when, quality = len(layout.index), batch.source_time_ns, batch.quality
        if when is None or isinstance(when, int):
            stamps = [self._when(when, arrival_ns)] * count
        else:
            stamps = [self._when(one, arrival_ns) for one in when]
        given = [quality] * count if isinstance(quality, int) else quality
        if not len(stamps) == len(given) == count:
            raise ValueError(f"{count} names but {len(stamps)} times and {len(given)} quality flags")
        flags = [flag | one for (_, flag, _), one in zip(stamps, given, strict=True)]
        times, stamped = [time_ns for time_ns, _, _ in stamps], [known for _, _, known in stamps]
        self._pending.add(layout.index, batch.values, times, flags, stamped)

    def _count_refused(self, port: SourcePort, layout: Layout) -> None:
        if layout.claimed:
            self._metrics.claimed.labels(port.name).inc(layout.claimed)
        if layout.over_limit:
            self._metrics.over_limit.labels(port.name).inc(layout.over_limit)

    def _relieve(self, arrival_ns: int) -> None:
        """Many readings and no tick yet: work off those of the next tick, so that memory stays bounded."""
        next_tick_ns = self._previous_tick_ns + self._timeline.period_ns
        waiting = len(self._pending) - self._pending.noted
        early = waiting <= _MOST_WAITING and self._previous_tick_ns != NEVER_NS
        self.absorb(min(arrival_ns, next_tick_ns) if early else arrival_ns)

    def _when(self, source_ns: int | None, arrival_ns: int) -> tuple[int, int, bool]:
        """Pipeline time of a reading, the flag if its source time cannot be believed, and whether it was used."""
        if source_ns is None:
            return arrival_ns, 0, False
        ahead_ns = self._timeline.to_pipeline_ns(source_ns) - arrival_ns
        if -self._max_past_ns <= ahead_ns <= 0:
            return arrival_ns + ahead_ns, 0, True
        if 0 < ahead_ns <= self._max_future_ns:
            return arrival_ns, 0, False  # a clock a little fast; nothing can have been measured after it arrived
        if not self._timeline.wall_is_set():
            return arrival_ns, 0, False
        return arrival_ns, int(Quality.FUTURE if ahead_ns > 0 else Quality.PAST), False

    def _drop_old(self, readings: Readings) -> Readings:
        """Sort by sensor and time; drop repeated ones and those older than what is known already."""
        readings = readings.sorted()
        index, time_ns, stamped = readings.index, readings.time_ns, readings.stamped
        same = np.concatenate(([False], (index[1:] == index[:-1]) & (time_ns[1:] == time_ns[:-1])))
        duplicate = stamped & (same | (time_ns == self._stamped_ns[index]))
        old = ~duplicate & (time_ns < self._graph.heard_ns[index])
        late = stamped & (time_ns <= self._previous_tick_ns) & ~duplicate
        if repeated := int(np.count_nonzero(duplicate)):
            self._metrics.duplicate.labels().inc(repeated)
        if too_late := int(np.count_nonzero(old | late)):
            self._metrics.late.labels().inc(too_late)
        readings = readings.where(~(duplicate | old))
        self._stamped_ns[readings.index[readings.stamped]] = readings.time_ns[readings.stamped]
        return readings

    def _check(self, readings: Readings) -> NDArray[np.int32]:
        """Scale the values in place to the sensor's unit and return the flags that they earn."""
        limits, index = self.limits, readings.index
        with np.errstate(over="ignore", invalid="ignore"):
            readings.value *= limits.scale[index]
            readings.value += limits.offset[index]
        value = readings.value
        finite = np.isfinite(value)
        flags = np.where(finite, 0, int(Quality.NOT_FINITE)).astype(np.int32)
        outside = (value < limits.min[index]) | (value > limits.max[index]) | (np.abs(value) > _LARGEST)
        flags[finite & outside] |= int(Quality.OUT_OF_RANGE)
        if limits.any_rate:
            flags[self._too_fast(readings) & (flags == 0)] |= int(Quality.RATE)
        return flags

    def _too_fast(self, readings: Readings) -> NDArray[np.bool_]:
        index, value, time_ns = readings.index, readings.value, readings.time_ns
        first = np.concatenate(([True], index[1:] != index[:-1]))
        before = np.where(first, self._graph.value[index], np.roll(value, 1))
        before_ns = np.where(first, self._graph.fresh_ns[index], np.roll(time_ns, 1))
        seconds = (time_ns - before_ns) / NS_PER_S
        comparable = (~first | self._graph.known[index]) & (seconds > 0)
        with np.errstate(invalid="ignore"):
            return np.asarray(comparable & (np.abs(value - before) > self.limits.max_rate[index] * seconds))


def _extended(column: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    if length <= len(column):
        return column
    more = np.full(max(length, 2 * len(column)) - len(column), NEVER_NS)
    return np.concatenate((column, more))
