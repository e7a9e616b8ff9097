"""A pipeline that goes on under other options: what can change between two ticks without losing what was learned."""

from __future__ import annotations

from collections.abc import Collection

from edge_agent.drift import DriftMonitor, DriftOptions
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, states_by_name


def reconfigure(pipeline: Pipeline, new: PipelineOptions, changed: Collection[str]) -> None:
    """Take what is in ``changed`` of ``new`` into use, at once and as a whole: nothing here waits.

    ``changed``: some of ``sensors``, ``rules``, ``patterns``, ``decision``, ``drift``, ``companions`` and ``edges``.
    What a pipeline is built for must be in ``new`` as it was: the other sections; of ``decision``, ``detect_within``
    and ``calibration_ticks``; of ``companions``, ``enabled`` and ``max_sensors``; of ``graph``, all but edges.
    """
    if "sensors" in changed:
        pipeline.intake.limits.reload(new.sensor_options, pipeline.graph.sensors)
    if {"rules", "sensors", "decision"} & set(changed):  # `sensors` has the names of values, `decision` when rules end
        pipeline.rules.reload(
            new.rules, states_by_name(new.sensor_options), new.decision.close_after, new.decision.contributors
        )
    if "patterns" in changed:
        pipeline.patterns.reload(new.patterns)
    if "decision" in changed:
        pipeline.decider.reconfigure(new.decision)
        pipeline.lifecycle.reconfigure(new.decision)
    if "drift" in changed:
        pipeline.drift = _drift(pipeline.drift, pipeline.options.drift, new.drift, new.tick.period)
    if "companions" in changed and pipeline.companions is not None:
        pipeline.companions.reconfigure(new.companions)
    if "edges" in changed:
        pipeline.graph.declare_edges(new.edges)
    pipeline.options = new  # a decider that is made later, when the model is exchanged, has the new options too


def _drift(
    monitor: DriftMonitor | None, before: DriftOptions, now: DriftOptions, period_s: float
) -> DriftMonitor | None:
    """A monitor under the options ``now``. What is usual was learned of blocks: of longer ones nothing is known."""
    if not now.enabled:
        return None
    new = DriftMonitor(now, period_s)
    if monitor is not None and now.block == before.block:
        new.restore(monitor.export())
    return new
