"""Bringing a model into use while ticks go on: loaded and warmed up beside them, exchanged between two of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from edge_agent.bundle import Bundle
from edge_agent.daemon.memory import trim_heap
from edge_agent.daemon.models import Model
from edge_agent.daemon.slices import in_slices
from edge_agent.errors import BundleError
from edge_agent.pipeline.engine import Pipeline
from edge_agent.pipeline.rewarm import rewarming

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

_LOADING_S = 0.2
"""ONNX Runtime holds Python's lock while it loads a model: a tick would be held up in the middle of it."""
_FEW = 3  # ticks that may be caught up with at once
_ROUNDS = 5


async def load(daemon: Daemon, bundle: Bundle) -> Model:
    """Load a bundle that was tried before, in a pause between ticks. :raises BundleError: it cannot be loaded here."""
    if daemon.pipeline is not None:
        check_fits(bundle, daemon.pipeline.graph.sensors)
    async with daemon.between_ticks(_LOADING_S):
        return await daemon.models.load(bundle)


async def go_live(
    daemon: Daemon, pipeline: Pipeline, model: Model, what: str, keep: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    """Warm ``model`` up between ticks, ``keep`` it on disk, exchange one reference; what has become of the state.

    The state is carried over as it is at the exchange when the network is the same; else the model has gone through
    all that the graph remembers, and the decision says that it is warming up until it is calibrated again.
    ``keep`` may raise: what ran before still runs.
    """
    knowledge = pipeline.knowledge_of(model.calibration)
    if knowledge is not None:
        await in_slices(knowledge.learning, daemon.pause)
    seen = 0
    if not model.detector.import_state(pipeline.detector.export_state()):
        seen = await _warm_up(model, pipeline, daemon.pause)
    await keep()
    # Ticks went on meanwhile: a state that can be carried over is taken as it is now.
    carried = model.detector.import_state(pipeline.detector.export_state())
    if not carried:
        for _ in rewarming(model.detector, pipeline.graph.replay(max(seen, pipeline.graph.ticks - _FEW))):
            pass
    before = daemon.model.describe() if daemon.model is not None else {}
    daemon.use_model(model, None if knowledge is None else knowledge.decider)
    daemon.metrics.model_swaps.labels(what.replace(" ", "_")).inc()
    message = (
        f"model {what}: {named(model.bundle)} instead of {before.get('name')} {before.get('version')}; "
        f"state {'carried over' if carried else 'warmed up again from recent readings'}"
    )
    _log.info("%s", message)
    pipeline.notice("model", message)
    await asyncio.to_thread(trim_heap)
    return {"state": "carried" if carried else "rewarmed", "calibrated": pipeline.decider.calibration.ready}


async def _warm_up(model: Model, pipeline: Pipeline, pause: Callable[[float], Awaitable[None]]) -> int:
    """Go through what the graph remembers, and through what has come since, until little is left; up to which tick."""
    graph, seen = pipeline.graph, 0
    for _ in range(_ROUNDS):
        missing, seen = graph.replay(seen), graph.ticks
        await in_slices(rewarming(model.detector, missing), pause)
        if graph.ticks - seen <= _FEW:
            break
    return seen


def check_fits(bundle: Bundle, sensors: tuple[str, ...]) -> None:
    """:raises BundleError: a site model was trained on another site: it knows none of the sensors here."""
    trained = [sensor.name for sensor in bundle.manifest.sensors]
    if trained and sensors and not set(trained) & set(sensors):
        raise BundleError(
            f"the model was trained on {len(trained)} sensors such as {trained[0]!r}, and none of the {len(sensors)} "
            f"sensors here, such as {sensors[0]!r}, is among them; expected a model of this plant or a universal one"
        )


def named(bundle: Bundle | None) -> str:
    """What people are told a model is."""
    return "the fallback" if bundle is None else f"{bundle.manifest.name} {bundle.manifest.version}"
