"""What the export thread does at each interval: send what is there, keep or count what did not go."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from opentelemetry.sdk.resources import Resource

from edge_agent.export.backlog import Backlog
from edge_agent.export.log_entry import LogEntry
from edge_agent.export.options import Signal
from edge_agent.export.otlp_collector import Collector
from edge_agent.export.otlp_logs import log_record
from edge_agent.export.otlp_metrics import metrics_data
from edge_agent.export.otlp_session import CollectorError
from edge_agent.export.otlp_spans import SpanMaker
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
        self._maker = SpanMaker(who)
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
            self._send_backlog(self._traces, self._send_traces)
            self._send_backlog(self._logs, self._send_logs)
        except CollectorError as error:
            self._say_down(error)
            return not error.retryable
        finally:
            self._collector.rest()
        self._say_up()
        return True

    def _send_metrics(self) -> None:
        now_ns = time.time_ns()
        try:
            self._collector.send_metrics(metrics_data(self._who, self._metrics, self._start_ns(now_ns), now_ns))
        except CollectorError:
            # Sums are cumulative: the next export makes up for this one.
            self._lost.inc()
            raise

    def _send_backlog(self, backlog: Backlog[T], send: Callable[[list[T]], int]) -> None:
        # Only what is there now: a thread that logs faster than we send must not keep us here for ever.
        for _ in range(len(backlog) // _BATCH + 1):
            items = backlog.take(_BATCH)
            if not items:
                return
            try:
                left_out = send(items)
            except CollectorError as error:
                if error.retryable:
                    backlog.put_back(items)
                else:
                    backlog.lose(len(items))
                raise
            backlog.lose(left_out)

    def _send_traces(self, traces: list[TickTrace]) -> int:
        return self._collector.send_spans([span for trace in traces for span in self._maker.spans(trace)])

    def _send_logs(self, entries: list[LogEntry]) -> int:
        return self._collector.send_logs([log_record(self._who, entry) for entry in entries])

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
