"""The detector that runs a model bundle."""

from __future__ import annotations

import hashlib

import numpy as np

from edge_agent.bundle.verify import Bundle
from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.alignment import State, carry_rows, fit_neighbours, pack_state, source_rows, unpack_state
from edge_agent.inference.step import MAX_AGE, MAX_VALUE, ModelStep
from edge_agent.verdict import Scores


class OnnxDetector:
    """Scores snapshots with the model of a bundle; see :class:`~edge_agent.inference.detector.Detector`.

    The constructor raises :class:`~edge_agent.errors.BundleError` when the model cannot be loaded; :meth:`score`
    raises :class:`~edge_agent.inference.detector.DetectorError` and keeps its state when a tick fails. Whether the
    model is any good is asked before, by :func:`~edge_agent.inference.selftest.self_test`.
    """

    degraded = False

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self.name = manifest.name
        self.version = manifest.version
        self.sha256 = bundle.sha256
        self.neighbours = manifest.neighbours
        self.warmup_ticks = manifest.warmup_ticks
        # What the state means is known to the network alone: bundles that differ in other files may go on with it.
        self._network = hashlib.sha256(bundle.model).hexdigest()
        self._inits = {state.name: state.init for state in manifest.states}
        self._context_row = {sensor.name: row for row, sensor in enumerate(manifest.sensors, 1)}
        contexts = (manifest.default_context, *(sensor.context for sensor in manifest.sensors))
        self._contexts = np.array(contexts, np.float32)
        self._step = ModelStep(bundle.model, manifest)
        self._sensors: tuple[str, ...] = ()
        self._topology: int | None = None
        self._seen = np.zeros(0, np.int32)

    def score(self, snapshot: Snapshot) -> Scores:
        """Score the tick and move the state on. The arrays of the result are the caller's to keep."""
        if snapshot.topology != self._topology or snapshot.sensors is not self._sensors:
            self._follow(snapshot)
        step = self._step
        usable = snapshot.usable & np.isfinite(snapshot.value)
        _show(snapshot, usable, step)
        step.run()
        seen = self._seen
        np.add(seen, usable, out=seen)
        valid = usable & (seen > self.warmup_ticks)
        return Scores(
            score=np.maximum(step.score, 0.0) * valid,
            expected=step.expected.copy(),
            scale=step.scale.copy(),
            valid=valid,
            neighbour=self._neighbour,
            attention=step.attention.copy(),
        )

    def reset(self) -> None:
        """Forget the carried state; every sensor warms up again."""
        self._step.reset()
        self._seen.fill(0)

    def export_state(self) -> State:
        """The carried state as copies: sensors, ticks seen, and the model's states."""
        return pack_state(self._network, self._sensors, self._columns())

    def import_state(self, state: State) -> bool:
        """Take over an exported state; False, and nothing changed, unless a bundle with this network did."""
        sensors = unpack_state(state, self._network, {name: array[:0] for name, array in self._columns().items()})
        if sensors is None:
            return False
        self._step.resize(len(sensors), {name: state[f"state.{name}"].copy() for name in self._inits})
        self._seen = state["seen"].copy()
        self._sensors, self._topology = sensors, None
        return True

    def _columns(self) -> State:
        return {"seen": self._seen, **{f"state.{name}": array for name, array in self._step.states.items()}}

    def _follow(self, snapshot: Snapshot) -> None:
        """Make room for the sensors of ``snapshot``; those that were there before keep their state."""
        rows = source_rows(self._sensors, snapshot.sensors)
        states = {name: carry_rows(state, rows, self._inits[name]) for name, state in self._step.states.items()}
        self._step.resize(len(snapshot), states)
        self._seen = carry_rows(self._seen, rows, 0)
        self._neighbour = fit_neighbours(snapshot.neighbour, self.neighbours)
        self._neighbour.flags.writeable = False
        self._step.neighbour[:] = self._neighbour
        known = (self._context_row.get(name, 0) for name in snapshot.sensors)
        self._step.context[:] = self._contexts[np.fromiter(known, np.int64, len(snapshot))]
        self._sensors = snapshot.sensors
        self._topology = snapshot.topology


def _show(snapshot: Snapshot, usable: np.ndarray[tuple[int], np.dtype[np.bool_]], step: ModelStep) -> None:
    """Write the tick into the model's buffers, within the limits that the contract promises to the model."""
    np.clip(snapshot.value, -MAX_VALUE, MAX_VALUE, out=step.value, casting="same_kind")
    np.fmin(snapshot.age, MAX_AGE, out=step.age)
    np.subtract(1, usable, out=step.quality)
    if not usable.all():
        # A missing sensor may hold anything, even NaN; the model must not see it.
        step.value[~np.isfinite(step.value)] = 0.0
