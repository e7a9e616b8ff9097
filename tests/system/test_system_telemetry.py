"""What the daemon tells about itself over OTLP, to a collector that only knows the protocol."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemon_process import DaemonProcess, MosquittoProcess, until

pytestmark = pytest.mark.counterpart


def collector() -> Any:
    path = Path(__file__).parents[1] / "export" / "otlp_receiver.py"
    spec = importlib.util.spec_from_file_location("system_otlp_receiver", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Receiver()


def spans(receiver: Any) -> list[Any]:
    requests = receiver.requests["/v1/traces"]
    return [span for one in requests for r in one.resource_spans for s in r.scope_spans for span in s.spans]


def test_metrics_traces_and_logs_arrive(broker: MosquittoProcess, daemon: Callable[..., DaemonProcess]) -> None:
    with closing(collector()) as receiver:
        agent = daemon(
            f"""
tick: {{period: 200ms}}
sources: {{plant: {{type: mqtt, port: {broker.port}, subscriptions: [{{topic: "plant/{{sensor}}"}}]}}}}
telemetry: {{endpoint: "{receiver.endpoint}", interval: 500ms, trace_ratio: 1}}
"""
        ).start()
        until(lambda: agent.connected("plant"), "the connection")

        def all_told() -> bool:
            broker.publish("plant/a", b"1.5")
            return {"tick", "intake", "graph", "score", "decide", "value"} <= {span.name for span in spans(receiver)}

        until(all_told, "spans of ticks and of a value")
        metrics = {
            metric.name
            for one in receiver.requests["/v1/metrics"]
            for r in one.resource_metrics
            for s in r.scope_metrics
            for metric in s.metrics
        }
        assert {"edge_agent_readings", "edge_agent_tick_seconds"} <= metrics  # exporters of Prometheus add `_total`

        def logged() -> str:
            return " ".join(
                record.body.string_value
                for one in receiver.requests["/v1/logs"]
                for r in one.resource_logs
                for s in r.scope_logs
                for record in s.log_records
            )

        until(lambda: "connected to mqtt://" in logged(), "the log line of the connection")
        assert agent.stop() == 0
