"""What the export thread does at each interval: encode what is there, post it, keep or count what did not go."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from edge_agent.export import otlp_messages as messages
from edge_agent.export.backlog import Backlog
from edge_agent.export.log_entry import LogEntry
from edge_agent.export.options import Signal
from edge_agent.export.otlp_http import Collector, CollectorError
from edge_agent.export.trace import TickTrace
from edge_agent.metrics import Counter, Metrics

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BATCH = 512
_CLOCK_JUMP_NS = 1_000_000_000


class Sender:
    """Used by one thread. ``signals`` says what to send; metrics that could not be sent are counted in ``lost``."""

    def __init__(
        self,
        collector: Collector,
        who: Resource,
        signals: tuple[Signal, ...],
        metrics: Metrics,
        traces: Backlog[TickTrace],
        logs: Backlog[LogEntry],
        lost: Counter,
    ) -> None:
        self._collector = collector
        self._who = who
        self._signals = signals
        self._metrics = metrics
        self._traces = traces
        self._logs = logs
        self._lost = lost
        self._down_since: float | None = None
        self._started_ns = time.time_ns()
        self._started_monotonic_ns = time.monotonic_ns()

    def export(self) -> bool:
        """Send all there is; False when the collector did not take something that may be sent again."""
        try:
            if Signal.METRICS in self._signals:
                self._send_metrics()
            self._send_backlog(Signal.TRACES, self._traces, self._encode_traces)
            self._send_backlog(Signal.LOGS, self._logs, self._encode_logs)
        except CollectorError as error:
            self._say_down(error)
            return not error.retryable
        self._say_up()
        return True

    def _send_metrics(self) -> None:
        now_ns = time.time_ns()
        request = messages.metrics_request(self._who, self._metrics, self._start_ns(now_ns), now_ns)
        try:
            self._collector.post(Signal.METRICS, request.SerializeToString())
        except CollectorError:
            # Sums are cumulative: the next export makes up for this one.
            self._lost.inc()
            raise

    def _send_backlog(self, signal: Signal, backlog: Backlog[T], encode: Callable[[list[T]], bytes]) -> None:
        # Only what is there now: a thread that logs faster than we send must not keep us here for ever.
        for _ in range(len(backlog) // _BATCH + 1):
            items = backlog.take(_BATCH)
            if not items:
                return
            try:
                answer = self._collector.post(signal, encode(items))
            except CollectorError as error:
                if error.retryable:
                    backlog.put_back(items)
                else:
                    backlog.lose(len(items))
                raise
            backlog.lose(_rejected(signal, answer))

    def _encode_traces(self, traces: list[TickTrace]) -> bytes:
        spans = [span for trace in traces for span in messages.spans(trace, os.urandom)]
        body: bytes = messages.traces_request(self._who, spans).SerializeToString()
        return body

    def _encode_logs(self, entries: list[LogEntry]) -> bytes:
        body: bytes = messages.logs_request(self._who, entries).SerializeToString()
        return body

    def _start_ns(self, now_ns: int) -> int:
        """Wall time of the start; taken anew when the clock was set, since no point may begin after it ends."""
        start_ns = now_ns - (time.monotonic_ns() - self._started_monotonic_ns)
        if abs(start_ns - self._started_ns) > _CLOCK_JUMP_NS:
            self._started_ns = start_ns
        return self._started_ns

    def _say_down(self, error: CollectorError) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            what = "trying again until it works" if error.retryable else "check `telemetry` in the configuration"
            _log.warning("OTLP export fails: %s; %s", error, what)

    def _say_up(self) -> None:
        if self._down_since is not None:
            _log.info("OTLP export works again after %.0f s", time.monotonic() - self._down_since)
            self._down_since = None


def _rejected(signal: Signal, answer: bytes) -> int:
    """What the collector took the request without (``partial_success``); an answer we cannot read says nothing."""
    try:
        if signal is Signal.TRACES:
            count = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
        else:
            count = ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records
    except DecodeError:
        return 0
    return max(0, int(count))
