"""Export of the agent's metrics, traces and logs by OTLP/HTTP, in one background thread.

::

    pipeline ─── trace() ──────▶ Backlog ─┐
    logging ──── log_handler ──▶ Backlog ─┼─▶ thread "otlp-export" ──▶ collector
    Metrics ──── read at each export ─────┘

Nothing here blocks or raises into the pipeline. While the collector is away metrics lose nothing but resolution
(they are cumulative), traces and logs wait in bounded queues, and what does not fit is counted
(``edge_agent_otlp_dropped_total``). It is said in the log once when the collector goes and once when it is back.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import ssl
import threading

from edge_agent.errors import ConfigError
from edge_agent.export.backlog import Backlog
from edge_agent.export.log_entry import EXPORT_THREAD, BacklogHandler, LogEntry
from edge_agent.export.options import Signal, TelemetryOptions
from edge_agent.export.trace import TickTrace, is_sampled
from edge_agent.metrics import Metrics

_LONGEST_PAUSE_S = 60.0


class OtlpExporter:
    """Sends what ``options.signals`` names. Without an endpoint it is inert: no thread, nothing imported.

    Order of calls: :meth:`start` once, then :meth:`trace` at will, then :meth:`stop` once.
    """

    def __init__(self, options: TelemetryOptions, metrics: Metrics, agent_name: str, version: str) -> None:
        self._options = options
        self._metrics = metrics
        self._agent_name = agent_name
        self._version = version
        dropped = metrics.otlp_dropped
        self._traces: Backlog[TickTrace] = Backlog(options.capacity, dropped.labels(Signal.TRACES.value))
        self._logs: Backlog[LogEntry] = Backlog(options.capacity, dropped.labels(Signal.LOGS.value))
        self._lost_metrics = dropped.labels(Signal.METRICS.value)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.log_handler: logging.Handler | None = BacklogHandler(self._logs) if self._exports(Signal.LOGS) else None
        """To be attached to a logger by whoever configures logging; None when logs are not exported."""

    def start(self) -> None:
        """Start the thread; the collector need not be there yet.

        :raises ConfigError: the extra ``otlp`` is not installed, or ``ca_file`` cannot be read.
        """
        if self._options.endpoint is None or self._thread is not None:
            return
        if not _is_installed():
            raise ConfigError(
                "telemetry.endpoint: OTLP export needs the extra `otlp`: pip install 'edge-graph-agent[otlp]'"
            )
        _check_certificates(self._options.ca_file)
        self._thread = threading.Thread(target=self._run, name=EXPORT_THREAD, daemon=True)
        self._thread.start()

    async def stop(self, deadline_s: float = 3.0) -> None:
        """Send what is waiting, for at most ``deadline_s``; what is left then is given up and counted."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        await asyncio.to_thread(thread.join, deadline_s)
        self._traces.lose(len(self._traces.take(self._options.capacity)))
        self._logs.lose(len(self._logs.take(self._options.capacity)))

    def samples(self, tick: int) -> bool:
        """True when the pipeline should make a :class:`TickTrace` of this tick."""
        return self._exports(Signal.TRACES) and is_sampled(tick, self._options.trace_ratio)

    def trace(self, trace: TickTrace) -> None:
        """Take one traced tick. Costs one append; turning it into spans is the thread's work."""
        if self._exports(Signal.TRACES):
            self._traces.put(trace)

    def _exports(self, signal: Signal) -> bool:
        return self._options.endpoint is not None and signal in self._options.signals

    def _run(self) -> None:
        # Loading the SDK takes some 200 ms, which the event loop should not wait for: hence in the thread.
        from edge_agent.export.otlp_collector import Collector
        from edge_agent.export.otlp_resource import resource
        from edge_agent.export.otlp_sender import Sender

        who = resource(self._agent_name, self._version, self._options.resource)
        collector = Collector(self._options, self._version)
        signals, lost = self._options.signals, self._lost_metrics
        sender = Sender(collector, who, signals, self._metrics, self._traces, self._logs, lost)
        failures = 0
        while not self._stopping.wait(self._pause_s(failures)):
            failures = 0 if sender.export() else failures + 1
        sender.export()
        collector.close()

    def _pause_s(self, failures: int) -> float:
        """The interval; after failures twice as long each time, up to a minute."""
        interval = self._options.interval
        return max(interval, min(interval * 2.0 ** min(failures, 16), _LONGEST_PAUSE_S))


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # one of the packages above it
        return False


def _check_certificates(ca_file: str | None) -> None:
    if ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"telemetry.ca_file: cannot read certificates from {ca_file!r}: {error}") from error
