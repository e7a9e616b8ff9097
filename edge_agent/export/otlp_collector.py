"""The SDK's three OTLP/HTTP exporters, set up from our options; used by one thread that may wait."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from edge_agent.export.options import Signal, TelemetryOptions
from edge_agent.export.otlp_session import CollectorError, CollectorSession

_SDK_LOGGER = "opentelemetry.exporter"
R = TypeVar("R", ExportTraceServiceResponse, ExportLogsServiceResponse)


class Collector:
    """Sends to the collector of ``options``; proxies are taken from the environment as usual.

    Each ``send_…`` makes one request, lasts at most about ``options.timeout``, and raises :class:`CollectorError`
    when it was not taken; the message names the address and what was answered, no secret.
    """

    def __init__(self, options: TelemetryOptions, version: str) -> None:
        self._session = CollectorSession()
        self._sdk_log = _LastWords()
        self._metrics = OTLPMetricExporter(**self._arguments(options, version, Signal.METRICS))
        self._traces = OTLPSpanExporter(**self._arguments(options, version, Signal.TRACES))
        self._logs = OTLPLogExporter(**self._arguments(options, version, Signal.LOGS))

    def send_metrics(self, data: MetricsData) -> None:
        """Send one state of all metrics."""
        self._session.forget()
        self._check(self._metrics.export(data) is MetricExportResult.SUCCESS)

    def send_spans(self, spans: Sequence[ReadableSpan]) -> int:
        """Send spans; gives how many of them the collector left out (``partial_success``)."""
        self._session.forget()
        self._check(self._traces.export(spans) is SpanExportResult.SUCCESS)
        return max(0, int(self._answer(ExportTraceServiceResponse).partial_success.rejected_spans))

    def send_logs(self, records: Sequence[ReadableLogRecord]) -> int:
        """Send log records; gives how many of them the collector left out (``partial_success``)."""
        self._session.forget()
        self._check(self._logs.export(records) is LogRecordExportResult.SUCCESS)
        return max(0, int(self._answer(ExportLogsServiceResponse).partial_success.rejected_log_records))

    def rest(self) -> None:
        """Close the connection until the next export, which may be an hour away."""
        self._session.close()

    def close(self) -> None:
        """To be called last."""
        for exporter in (self._metrics, self._traces, self._logs):
            exporter.shutdown()
        self._sdk_log.detach()

    def _arguments(self, options: TelemetryOptions, version: str, signal: Signal) -> dict[str, Any]:
        secrets = {name: secret.reveal() for name, secret in options.headers.items()}
        return {
            "endpoint": f"{options.endpoint}/v1/{signal.value}",
            "certificate_file": options.ca_file or _system_certificates(),
            "headers": {"User-Agent": f"edge-agent/{version}", **secrets},
            "timeout": options.timeout,
            "compression": Compression.Gzip,
            "session": self._session,
        }

    def _check(self, taken: bool) -> None:
        if not taken:
            # Without a failure no request was made: it could not be encoded, which only the SDK's log tells.
            raise self._session.failure or CollectorError(self._sdk_log.text, retryable=False)

    def _answer(self, kind: type[R]) -> R:
        try:
            answer: R = kind.FromString(self._session.answer)
        except DecodeError:  # the request was taken; an answer that we cannot read says nothing
            return kind()
        return answer


class _LastWords(logging.Handler):
    """Keeps what the exporters log, at each failed attempt anew; the sender says it once instead."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        logger = logging.getLogger(_SDK_LOGGER)
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()

    def detach(self) -> None:
        """Stop listening."""
        logging.getLogger(_SDK_LOGGER).removeHandler(self)


def _system_certificates() -> str | None:
    """What the gateway's administrator trusts; requests alone would take the list of the package certifi."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath
