"""The whole configuration, assembled from the option classes that live beside their components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_type_hints

from edge_agent.api.options import ApiOptions
from edge_agent.companions import CompanionOptions
from edge_agent.config.agent import AgentOptions
from edge_agent.config.layers import Layers
from edge_agent.contract import SinkOptions, SourceOptions, UplinkOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.drift import DriftOptions
from edge_agent.export.options import TelemetryOptions
from edge_agent.graph.options import GraphOptions
from edge_agent.history import HistoryOptions
from edge_agent.intake.options import IntakeOptions, SensorOptions
from edge_agent.options import Options
from edge_agent.ota.options import OtaOptions
from edge_agent.patterns.options import PatternOptions
from edge_agent.pipeline.options import ModelOptions, TickOptions
from edge_agent.registry import ADAPTER_GROUPS, Group
from edge_agent.rules.options import RuleOptions


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """One configuration file, checked and with its references resolved. Nothing in it can be changed.

    ``sources``, ``sinks``, ``uplinks``: by the name the user gave, in the order of the file; each has its adapter's
    option class.
    ``sensors``: by exact name or shell-style pattern, in the order of the file. A sensor has the options of its exact
    name, else of the first pattern that matches (:func:`~edge_agent.pipeline.engine.sensor_options_by_pattern`).
    ``rules``: by the name the user gave.
    Relative paths in the file are relative to the file's folder; here they are absolute.
    ``layers``: the texts that it was made of.
    """

    path: Path
    agent: AgentOptions
    tick: TickOptions
    intake: IntakeOptions
    sources: Mapping[str, SourceOptions]
    sensors: Mapping[str, SensorOptions]
    graph: GraphOptions
    model: ModelOptions
    companions: CompanionOptions
    decision: DecisionOptions
    drift: DriftOptions
    rules: Mapping[str, RuleOptions]
    patterns: PatternOptions
    sinks: Mapping[str, SinkOptions]
    ota: OtaOptions
    uplinks: Mapping[str, UplinkOptions]
    api: ApiOptions
    telemetry: TelemetryOptions
    history: HistoryOptions
    layers: Layers = field(default=Layers(), compare=False, repr=False)


SECTION_NAMES: tuple[str, ...] = tuple(
    name for name in AgentConfig.__dataclass_fields__ if name not in ("path", "layers")
)
"""Names of the top-level sections, in the order of the reference page and the sample."""

SECTIONS: Mapping[str, type[Options]] = {
    name: hint
    for name, hint in get_type_hints(AgentConfig).items()
    if isinstance(hint, type) and issubclass(hint, Options)
}
"""Sections that are one option class. The others are mappings: ``sensors``, ``rules`` and those of adapters."""

ENTRY_OPTIONS: Mapping[str, type[Options]] = {"sensors": SensorOptions, "rules": RuleOptions}
"""Mappings of which every entry has the same option class."""

ADAPTER_SECTIONS: Mapping[str, Group] = {group.section: group for group in ADAPTER_GROUPS}

SECTION_SUMMARIES: Mapping[str, str] = {
    "agent": "The daemon itself.",
    "tick": "The beat of the detector.",
    "intake": "How readings are taken in, for all sources.",
    "sources": "Where readings come from (at least one): a name of yours, then the adapter's `type` and its options.",
    "sensors": "What is known about sensors, by name or shell-style pattern.",
    "graph": "Which sensors belong together.",
    "model": "Which model scores the sensors.",
    "companions": "Linear detectors that the gateway fits to its own history, heard beside the model.",
    "decision": "When to disturb people.",
    "drift": "When to say that sensors, plant or model have changed for good.",
    "rules": "Rules of your own, watched beside the model: a name of yours, then what it says.",
    "patterns": "Known attacks and faults that incidents are compared with.",
    "sinks": "Where incidents go: a name of yours, then the adapter's `type` and its options.",
    "ota": "Updates of models and configuration over the air; without `repository` there are none.",
    "uplinks": "How this gateway is told of news at once, and where its status reports go: a name of yours, then the "
    "adapter's `type` and its options.",
    "api": "Local HTTP interface: status, incidents, metrics for Prometheus.",
    "telemetry": "Metrics, traces and logs of the agent itself, over OTLP.",
    "history": "Incidents, events and, if wanted, readings kept over restarts.",
}
