"""What the gateway has learned, over restarts: the detector's state, the calibration, the edges.

One file of plain arrays (``.npz``, no pickle), written in one piece now and then. Damage costs a warm-up, not a start.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.arrays import read_npz
from edge_agent.errors import BundleError
from edge_agent.pipeline.engine import Pipeline
from edge_agent.pipeline.rewarm import SETTLING_TICKS, unsettled

_log = logging.getLogger(__name__)

_DETECTOR, _DECISION, _DRIFT, _COMPANIONS = "detector.", "decision.", "drift.", "companions."
_SENSORS, _LEARNED, _ENSEMBLE = "sensors", "learned_edges", "ensemble_judged"
_LIMIT = 256 * 2**20


def export_learned(pipeline: Pipeline) -> dict[str, NDArray[Any]]:
    """Everything learned, as copies; :func:`~edge_agent.bundle.write_npz` makes a file of it, best in a thread."""
    arrays = {_DETECTOR + name: array for name, array in pipeline.detector.export_state().items()}
    arrays |= {_DECISION + name: array for name, array in pipeline.decider.export().items()}
    if pipeline.drift is not None:
        arrays |= {_DRIFT + name: array for name, array in pipeline.drift.export().items()}
    if pipeline.companions is not None:
        arrays |= {_COMPANIONS + name: array for name, array in pipeline.companions.export().items()}
    arrays[_ENSEMBLE] = np.array(pipeline.transition.done)
    arrays[_SENSORS] = np.array(pipeline.graph.sensors, dtype=np.str_)
    if pipeline.graph.learner is not None:
        arrays[_LEARNED] = pipeline.graph.learner.export()
    return arrays


def import_learned(pipeline: Pipeline, raw: bytes, settling_ticks: int = SETTLING_TICKS) -> bool:
    """Take over what was exported, if it fits the detector in use; False when it does not.

    Sensors are judged again after ``settling_ticks``; 0 is for a plant that did not go on meanwhile.
    For a pipeline that knows no sensors yet: learned edges are by the order of the sensors.
    """
    try:
        arrays = dict(read_npz("learned state", raw, _LIMIT))
    except BundleError as error:
        _log.warning("learned state not used: %s", error)
        return False
    state, sensors, edges = _part(arrays, _DETECTOR), arrays.get(_SENSORS), arrays.get(_LEARNED)
    if (
        sensors is None
        or "sensors" not in state
        or not pipeline.detector.import_state(unsettled(state, pipeline.detector, settling_ticks))
    ):
        _log.info("learned state not used: it belongs to another model")
        return False
    try:
        pipeline.decider.restore(_part(arrays, _DECISION))
    except (KeyError, ValueError) as error:
        _log.warning("learned calibration not used: %s", error)
        pipeline.decider.recalibrate()
    _restore_drift(pipeline, _part(arrays, _DRIFT))
    _restore_companions(pipeline, _part(arrays, _COMPANIONS), bool(np.all(arrays.get(_ENSEMBLE, False))))
    pipeline.intake.expect(tuple(str(name) for name in sensors.ravel()))
    if edges is not None and edges.ndim == 2 and edges.dtype.kind == "i":
        pipeline.graph.restore_learned(edges)
    return True


def _restore_drift(pipeline: Pipeline, saved: dict[str, NDArray[Any]]) -> None:
    if pipeline.drift is None or not saved:
        return
    try:
        pipeline.drift.restore(saved)
    except (KeyError, ValueError) as error:
        _log.warning("learned drift reference not used: %s", error)


def _restore_companions(pipeline: Pipeline, saved: dict[str, NDArray[Any]], judged: bool) -> None:
    """``judged``: the saved calibration is that of the ensemble, and means nothing without the companions."""
    if pipeline.companions is not None and saved:
        try:
            pipeline.companions.restore(saved)
            pipeline.transition.done = judged
        except (KeyError, ValueError) as error:
            _log.warning("learned companions not used: %s", error)
    if judged and not pipeline.transition.done:
        pipeline.decider.recalibrate()


def _part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
