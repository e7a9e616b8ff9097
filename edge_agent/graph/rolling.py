"""The rolling graph: what is known of every sensor now, a short window of its past, and who its neighbours are. Pure.

Columns, not objects: all arrays are aligned with :attr:`RollingGraph.sensors`. Sensors are appended when they first
speak and removed when they have been silent for long; both change ``topology``, and whoever carries state by sensor
re-aligns it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.learning import EdgeLearner, without_gaps
from edge_agent.graph.snapshot import Snapshot
from edge_agent.sample import UNUSABLE, Quality

_UNUSABLE_NOW = np.int32(UNUSABLE | Quality.STALE | Quality.STUCK)
NEVER_NS = np.int64(-(2**62))


class RollingGraph:
    """State of all sensors and the edges between them.

    ``neighbours`` is K, how many each sensor may have. ``period_ns`` turns times into ages. ``window`` is how many
    ticks are remembered; ``learner`` finds edges in them, None learns nothing.
    """

    def __init__(self, neighbours: int, period_ns: int, window: int, learner: EdgeLearner | None = None) -> None:
        self.neighbours = neighbours
        self.period_ns = period_ns
        self.window_length = window
        self.topology = 0
        self.learner = learner
        self.sensors: tuple[str, ...] = ()
        self.index: dict[str, int] = {}
        self._declared: dict[str, list[str]] = {}
        self._trained: dict[str, list[str]] = {}
        self._mentioned_by: dict[str, list[str]] = {}
        self._ticks = 0
        self._allocate(64)

    # -- sensors -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.sensors)

    def add(self, name: str) -> int:
        """Index of ``name``; a new sensor is appended without a value."""
        self.add_all((name,))
        return self.index[name]

    def add_all(self, names: Iterable[str]) -> None:
        """:meth:`add` for many names at the price of one."""
        new = [name for name in dict.fromkeys(names) if name not in self.index]
        if not new:
            return
        first = len(self.sensors)
        count = first + len(new)
        if count > self._capacity:
            self._grow(count)
        self.sensors += tuple(new)
        self.index.update(zip(new, range(first, count), strict=True))
        self._clear(first, count)
        if self._mentioned_by:
            touched = {one for name in new for one in (name, *self._mentioned_by.get(name, ()))}
            self._fill_rows(self.index[name] for name in touched if name in self.index)
        self.topology += 1

    def remove(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Forget sensors. Returns the old indices of those that stay, in their new order.

        Places that become free among the neighbours of those that stay are filled again by the learner's next pass.
        """
        gone = set(names)
        keep = np.array([i for i, name in enumerate(self.sensors) if name not in gone], dtype=np.int64)
        count = len(keep)
        renumber = np.full(len(self.sensors) + 1, -1, dtype=np.int64)  # index -1 reads the last entry, which is -1
        renumber[keep] = np.arange(count)
        self.sensors = tuple(name for name in self.sensors if name not in gone)
        self.index = {name: i for i, name in enumerate(self.sensors)}
        for column in self._columns():
            column[:count] = column[keep]
        for row in self._window:
            row[:count] = row[keep]
        self._neighbour[:count] = without_gaps(renumber[self._neighbour[:count]])
        if self.learner is not None:
            self.learner.remap(keep, renumber)
        self.topology += 1
        return keep

    # -- edges -------------------------------------------------------------------------------------------------

    def declare_edges(self, edges: Iterable[tuple[str, str]]) -> None:
        """Set the edges that the user declared (undirected, in order of preference)."""
        self._declared = _undirected(edges)
        self._edges_changed()

    def set_trained_edges(self, edges: Iterable[tuple[str, str, float]]) -> None:
        """Set the edges a bundle was trained with: ``(sensor, neighbour, weight)``, directed, strongest first."""
        trained: dict[str, list[str]] = {}
        for sensor, neighbour, _weight in sorted(edges, key=lambda edge: -abs(edge[2])):
            trained.setdefault(sensor, []).append(neighbour)
        self._trained = trained
        self._edges_changed()

    def set_neighbours(self, neighbours: int) -> None:
        """Change K, as a model with another contract asks for."""
        if neighbours == self.neighbours:
            return
        self.neighbours = neighbours
        self._neighbour = np.full((self._capacity, neighbours), -1, dtype=np.int64)
        self._fill_all_rows()
        self.topology += 1

    def restore_learned(self, rows: NDArray[np.int64]) -> None:
        """Take over learned edges that were saved for the sensors as they are now."""
        if self.learner is not None and rows.ndim == 2:
            self.learner.restore(rows, len(self.sensors))
            self._fill_all_rows()
            self.topology += 1

    def edges(self) -> list[tuple[str, str, str]]:
        """All edges as ``(sensor, neighbour, origin)`` with origin ``declared``, ``trained`` or ``learned``."""
        found = []
        for i, name in enumerate(self.sensors):
            for j in self._neighbour[i]:
                if j >= 0:
                    other = self.sensors[j]
                    origin = "declared" if other in self._declared.get(name, ()) else "learned"
                    if origin == "learned" and other in self._trained.get(name, ()):
                        origin = "trained"
                    found.append((name, other, origin))
        return found

    # -- readings ----------------------------------------------------------------------------------------------

    def update(
        self,
        index: NDArray[np.int64],
        value: NDArray[np.float64],
        flags: NDArray[np.int32],
        time_ns: NDArray[np.int64],
    ) -> None:
        """Take readings in order of time; several of one sensor are allowed. A bad value keeps the one before.

        ``time_ns`` is pipeline time.
        """
        good = (flags & np.int32(UNUSABLE)) == 0
        good_index, good_value, good_time = index[good], value[good], time_ns[good]
        changed = (good_value != self.value[good_index]) | ~self.known[good_index]
        # Numpy assigns repeated indices in order, so the newest reading wins.
        self.changed_ns[good_index[changed]] = good_time[changed]
        self.value[good_index] = good_value
        self.fresh_ns[good_index] = good_time
        self.known[good_index] = True
        self.heard_ns[index] = time_ns
        self.quality[index] = flags

    def forget_values(self) -> None:
        """No sensor has a value any more; sensors and edges stay, and so does the window edges are learned from."""
        self.known[:] = False
        self.quality[:] = 0
        self.value[:] = 0.0
        for times in (self.fresh_ns, self.heard_ns, self.changed_ns):
            times[:] = NEVER_NS

    def flag(self, flag: Quality, where: NDArray[np.bool_]) -> None:
        """Set ``flag`` exactly where ``where`` (N) is True."""
        quality = self.quality[: len(self.sensors)]
        quality &= ~np.int32(flag)
        quality[where] |= np.int32(flag)

    def snapshot(self, tick: int, at_ns: int, wall_ns: int) -> Snapshot:
        """The state at pipeline time ``at_ns``, also remembered in the window."""
        n = len(self.sensors)
        usable = self.known[:n] & ((self.quality[:n] & _UNUSABLE_NOW) == 0)
        age = np.maximum(at_ns - self.fresh_ns[:n], 0) // self.period_ns
        self._remember(usable)
        if self.learner is not None and self.learner.step(self._window, self._ticks, n, self.neighbours):
            self._fill_all_rows()
            self.topology += 1
        return Snapshot(
            tick=tick,
            time_ns=wall_ns,
            topology=self.topology,
            sensors=self.sensors,
            value=self.value[:n].copy(),
            age=np.minimum(age, 1e9).astype(np.float32),
            quality=self.quality[:n].copy(),
            usable=usable,
            neighbour=self._neighbour[:n].copy(),
        )

    def window(self, sensors: NDArray[np.int64], ticks: int) -> NDArray[np.float64]:
        """The last ``ticks`` values [T, M] of ``sensors`` (M), oldest first; NaN where one was missing."""
        length = min(ticks, self._ticks, self.window_length)
        rows = (np.arange(self._ticks - length, self._ticks)) % self.window_length
        return self._window[rows[:, None], sensors]

    @property
    def ticks(self) -> int:
        """How many ticks were remembered so far; the next one has this number in :meth:`replay`."""
        return self._ticks

    def replay(self, since: int = 0) -> Iterator[Snapshot]:
        """The window as snapshots, oldest first, so that another detector can get to know the plant. Ages are lost.

        ``since``: from this tick on. What it gives is the window as it is now, even when it is gone through later and
        in another thread.
        """
        n = len(self.sensors)
        length = min(self._ticks - min(since, self._ticks), self._ticks, self.window_length)
        ticks = range(self._ticks - length, self._ticks)
        window = self._window[np.array(ticks, dtype=np.int64) % self.window_length, :n]
        return _snapshots(window, ticks, self.topology, self.sensors, self._neighbour[:n].copy())

    # -- inside ------------------------------------------------------------------------------------------------

    def _remember(self, usable: NDArray[np.bool_]) -> None:
        n = len(self.sensors)
        self._window[self._ticks % self.window_length, :n] = np.where(usable, self.value[:n], np.nan)
        self._ticks += 1

    def _columns(self) -> tuple[NDArray[np.generic], ...]:
        times = (self.fresh_ns, self.heard_ns, self.changed_ns)
        return (self.value, self.known, self.quality, *times, self._neighbour)

    def _allocate(self, capacity: int) -> None:
        self._capacity = capacity
        self.value = np.zeros(capacity)
        self.known = np.zeros(capacity, dtype=np.bool_)
        self.quality = np.zeros(capacity, dtype=np.int32)
        self.fresh_ns = np.full(capacity, NEVER_NS)
        self.heard_ns = np.full(capacity, NEVER_NS)
        self.changed_ns = np.full(capacity, NEVER_NS)
        self._neighbour = np.full((capacity, self.neighbours), -1, dtype=np.int64)
        self._window = np.full((self.window_length, capacity), np.nan)

    def _grow(self, needed: int) -> None:
        n = len(self.sensors)
        old_columns, old_window = self._columns(), self._window
        self._allocate(max(needed, 2 * self._capacity))
        for new, old in zip(self._columns(), old_columns, strict=True):
            new[:n] = old[:n]
        self._window[:, :n] = old_window[:, :n]

    def _clear(self, first: int, last: int) -> None:
        fresh = slice(first, last)
        self.value[fresh] = 0.0
        self.known[fresh] = False
        self.quality[fresh] = 0
        self.fresh_ns[fresh] = self.heard_ns[fresh] = self.changed_ns[fresh] = NEVER_NS
        self._neighbour[fresh] = -1
        self._window[:, fresh] = np.nan

    def _edges_changed(self) -> None:
        mentioned: dict[str, list[str]] = {}
        for name in {**self._declared, **self._trained}:
            for other in (*self._declared.get(name, ()), *self._trained.get(name, ())):
                mentioned.setdefault(other, []).append(name)
        self._mentioned_by = mentioned
        self._fill_all_rows()
        self.topology += 1

    def _fill_all_rows(self) -> None:
        """Learned edges at once, then one by one the sensors that have others."""
        n = len(self.sensors)
        self._neighbour[:n] = -1
        if self.learner is not None:
            learned = self.learner.export()[:n, : self.neighbours]
            self._neighbour[: len(learned), : learned.shape[1]] = learned
        self._fill_rows({self.index[name] for name in {**self._declared, **self._trained} if name in self.index})

    def _fill_rows(self, sensors: Iterable[int]) -> None:
        """Declared neighbours first, then those the model was trained with, then learned ones, K at most."""
        for sensor in sensors:
            name = self.sensors[sensor]
            names = (*self._declared.get(name, ()), *self._trained.get(name, ()))
            row = [self.index[other] for other in names if other in self.index]
            if self.learner is not None:
                row += self.learner.neighbours_of(sensor)
            chosen = [other for other in dict.fromkeys(row) if other != sensor][: self.neighbours]
            self._neighbour[sensor] = -1
            self._neighbour[sensor, : len(chosen)] = chosen


def _snapshots(
    window: NDArray[np.float64], ticks: range, topology: int, sensors: tuple[str, ...], neighbour: NDArray[np.int64]
) -> Iterator[Snapshot]:
    for tick, values in zip(ticks, window, strict=True):
        usable = ~np.isnan(values)
        yield Snapshot(
            tick=tick,
            time_ns=0,
            topology=topology,
            sensors=sensors,
            value=np.where(usable, values, 0.0),
            age=np.zeros(len(sensors), np.float32),
            quality=np.where(usable, 0, int(Quality.BAD)).astype(np.int32),
            usable=usable,
            neighbour=neighbour,
        )


def _undirected(edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for a, b in edges:
        if a != b:
            found.setdefault(a, []).append(b)
            found.setdefault(b, []).append(a)
    return found
