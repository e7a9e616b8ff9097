"""One tick of a bundle's model in ONNX Runtime, as arrays in fixed buffers. The only module that imports it.

Inputs are written in place, outputs are read in place. The carried state has two sets of buffers, one that the model
reads and one that it writes; they change places only when a tick has succeeded, so that a failed tick leaves the state
as it was, and nothing is copied.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import Manifest, StateSpec
from edge_agent.errors import BundleError
from edge_agent.inference.detector import DetectorError

MAX_VALUE = 1e15
"""Values are limited to this size: beyond any quantity of a plant, and its square still fits a float32."""
MAX_AGE = 1e6


class ModelStep:
    """A loaded model with buffers for a number of sensors.

    Write ``value``, ``age``, ``quality``, ``neighbour`` and ``context``, call :meth:`run`, read ``expected``,
    ``scale``, ``score`` and ``attention`` before the next run. Not for two threads at once.
    :class:`~edge_agent.errors.BundleError` when ONNX Runtime cannot load the model.
    """

    def __init__(self, model: bytes, manifest: Manifest) -> None:
        self._manifest = manifest
        self._session, self._errors = _load(model)
        self.resize(0, None)

    def resize(self, sensors: int, states: Mapping[str, NDArray[np.float32]] | None) -> None:
        """Make buffers for ``sensors`` rows, with the given ``states`` or, for None, fresh ones."""
        width = self._manifest.neighbours
        self.value = np.zeros(sensors, np.float32)
        self.age = np.zeros(sensors, np.float32)
        self.quality = np.zeros(sensors, np.int32)
        self.neighbour = np.full((sensors, width), -1, np.int64)
        self.context = np.zeros((sensors, self._manifest.context), np.float32)
        self.expected = np.zeros(sensors, np.float32)
        self.scale = np.zeros(sensors, np.float32)
        self.score = np.zeros(sensors, np.float32)
        self.attention = np.zeros((sensors, width), np.float32)
        fresh = {spec.name: initial_state(spec, sensors) for spec in self._manifest.states}
        self.states = dict(states) if states is not None else {name: array.copy() for name, array in fresh.items()}
        self._next_states = fresh
        self._outputs = (self.expected, self.scale, self.score, self.attention)
        self._sensors = sensors
        # A binding refers to memory, so each direction of the exchange of state needs its own.
        self._binding = self._bind(self.states, self._next_states)
        self._next_binding = self._bind(self._next_states, self.states)

    def reset(self) -> None:
        """Put every sensor's state back to its initial value."""
        for spec in self._manifest.states:
            self.states[spec.name].fill(spec.init)

    def run(self) -> None:
        """Score what is in the input buffers and move the state on.

        :class:`~edge_agent.inference.detector.DetectorError` when the model fails or any output or state is not finite;
        the state then stays as it was.
        """
        if self._sensors == 0:
            return
        try:
            self._session.run_with_iobinding(self._binding)
        except self._errors as error:
            raise DetectorError(f"the model failed on {self._sensors} sensors: {error}") from error
        self._check_finite()
        self.states, self._next_states = self._next_states, self.states
        self._binding, self._next_binding = self._next_binding, self._binding

    def _check_finite(self) -> None:
        # One sum finds a NaN or an infinity; only then is it worth looking closer. It may itself overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            sums = [np.add.reduce(array, axis=None) for array in (*self._outputs, *self._next_states.values())]
        if not all(map(math.isfinite, sums)):
            self._refuse_non_finite()

    def _refuse_non_finite(self) -> None:
        outputs = dict(zip(("expected", "scale", "score", "attention"), self._outputs, strict=True))
        outputs |= {f"next_state.{name}": array for name, array in self._next_states.items()}
        for name, array in outputs.items():
            count = int((~np.isfinite(array)).sum())
            if count:
                raise DetectorError(f"the model gave {count} numbers in {name!r} that are not finite")

    def _bind(self, states: Mapping[str, NDArray[np.float32]], next_states: Mapping[str, NDArray[np.float32]]) -> Any:
        binding = self._session.io_binding()
        inputs = {name: getattr(self, name) for name in ("value", "age", "quality", "neighbour", "context")}
        outputs = {name: getattr(self, name) for name in ("expected", "scale", "score", "attention")}
        inputs |= {f"state.{name}": array for name, array in states.items()}
        outputs |= {f"next_state.{name}": array for name, array in next_states.items()}
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


def initial_state(spec: StateSpec, sensors: int) -> NDArray[np.float32]:
    """The state of sensors that have not been seen yet."""
    return np.full((sensors, *spec.shape), spec.init, np.float32)


def load_runtime() -> Any:
    """ONNX Runtime, loaded when it is first needed: it costs 15 MB and 0.1 s that commands without a model save."""
    # Later wheels report to their maker unless this is set before the import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort

    return ort


def _load(model: bytes) -> tuple[Any, tuple[type[Exception], ...]]:
    """A session on one thread that does not spin, and what it raises."""
    ort = load_runtime()
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    errors = (*(kind for kind in vars(native).values() if _is_error(kind)), RuntimeError, ValueError)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # What goes wrong is raised as well, and our log is ours.
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]), errors
    except errors as error:
        raise BundleError(f"model.onnx: ONNX Runtime {ort.__version__} cannot load it: {error}") from error


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
