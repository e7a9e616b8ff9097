"""Our traced ticks as spans of the SDK. They are over when they come here, so no tracer is involved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, TraceFlags

from edge_agent.export.otlp_resource import SCOPE, utf8
from edge_agent.export.trace import ReadingTrace, TickTrace

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_Value = str | int | float | Sequence[str]


class SpanMaker:
    """Makes spans of ``who``, with random identifiers."""

    def __init__(self, who: Resource) -> None:
        self._who = who
        self._ids = RandomIdGenerator()

    def spans(self, trace: TickTrace) -> list[ReadableSpan]:
        """``tick`` with a child for each stage; then, if a reading was followed, its way as a trace of its own.

        ::

            tick                      value                      arrival of the reading to end of its tick
            ├── intake                ├── intake                 arrival to taken
            ├── graph                 ├── wait                   taken to start of the tick
            ├── score                 └── tick                   links to the trace on the left
            ├── decide
            └── deliver

        They are two traces because a tick has readings of many sources, and none of them is its parent.
        """
        tick = self._context()
        root = self._span("tick", trace.start_ns, trace.end_ns, tick, attributes=_tick_attributes(trace))
        stages = [
            self._child(tick, stage.name, stage.start_ns, stage.start_ns + stage.duration_ns) for stage in trace.stages
        ]
        way = [] if trace.reading is None else self._way(trace, trace.reading, tick)
        return [root, *stages, *way]

    def _way(self, trace: TickTrace, reading: ReadingTrace, tick: SpanContext) -> list[ReadableSpan]:
        value = self._context()
        events = [Event("incident", {"incident": utf8(name)}, trace.end_ns) for name in trace.incidents]
        about = {"sensor": utf8(reading.sensor), "source": utf8(reading.source)}
        return [
            self._span("value", reading.arrival_ns, trace.end_ns, value, attributes=about, events=events),
            self._child(value, "intake", reading.arrival_ns, reading.taken_ns),
            self._child(value, "wait", reading.taken_ns, max(reading.taken_ns, trace.start_ns)),
            self._child(value, "tick", trace.start_ns, trace.end_ns, links=[Link(tick)]),
        ]

    def _context(self, trace_id: int | None = None) -> SpanContext:
        chosen = self._ids.generate_trace_id() if trace_id is None else trace_id
        return SpanContext(chosen, self._ids.generate_span_id(), is_remote=False, trace_flags=_SAMPLED)

    def _child(
        self, parent: SpanContext, name: str, start_ns: int, end_ns: int, links: Sequence[Link] = ()
    ) -> ReadableSpan:
        return self._span(name, start_ns, end_ns, self._context(parent.trace_id), parent=parent, links=links)

    def _span(
        self,
        name: str,
        start_ns: int,
        end_ns: int,
        context: SpanContext,
        *,
        parent: SpanContext | None = None,
        attributes: Mapping[str, _Value] | None = None,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context=context,
            parent=parent,
            resource=self._who,
            attributes=attributes,
            events=events,
            links=links,
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=SCOPE,
        )


def _tick_attributes(trace: TickTrace) -> dict[str, _Value]:
    found: dict[str, _Value] = {"tick": trace.tick, "sensors": trace.sensors, "score": trace.score}
    if trace.p_value is not None:
        found["p_value"] = trace.p_value
    if trace.incidents:
        found["incidents"] = [utf8(name) for name in trace.incidents]
    return found
