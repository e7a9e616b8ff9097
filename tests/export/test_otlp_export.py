"""The exporter against a real OTLP/HTTP receiver: there, away, refusing, and never in the way."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from otlp_receiver import Receiver, wait_until
from pydantic import ValidationError

from edge_agent.errors import ConfigError
from edge_agent.export.options import Signal, TelemetryOptions
from edge_agent.export.otlp import OtlpExporter
from edge_agent.export.trace import ReadingTrace, Stage, TickTrace
from edge_agent.metrics import Metrics

T0 = 1_700_000_000_000_000_000
STAGES = tuple(
    Stage(name, T0 + i * 1000, 1000) for i, name in enumerate(("intake", "graph", "score", "decide", "deliver"))
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    log = logging.getLogger("plant.test")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield log
    log.handlers.clear()


def options(endpoint: str, **more: object) -> TelemetryOptions:
    return TelemetryOptions.model_validate({"endpoint": endpoint, "interval": "100ms", "timeout": "2s", **more})


def exporter(opts: TelemetryOptions, metrics: Metrics | None = None) -> OtlpExporter:
    return OtlpExporter(opts, metrics or Metrics(), "gateway-7", "1.2.3")


def tick(number: int, reading: ReadingTrace | None = None, incidents: tuple[str, ...] = ()) -> TickTrace:
    return TickTrace(number, T0, STAGES, sensors=51, score=1.5, p_value=0.25, reading=reading, incidents=incidents)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def attributes(found: object) -> dict[str, object]:
    values = {}
    for pair in found.attributes:  # type: ignore[attr-defined]
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        values[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return values


async def test_counters_gauges_and_histograms_arrive_with_their_labels(receiver: Receiver) -> None:
    metrics = Metrics()
    metrics.readings.labels("plc").inc(7)
    metrics.sensors.labels().set(51)
    metrics.p_value.labels().set(float("nan"))
    for seconds in (0.0002, 0.0002, 9.0):
        metrics.tick_seconds.labels("score").observe(seconds)
    export = exporter(options(receiver.endpoint), metrics)
    export.start()
    await export.stop()
    found = receiver.metrics()
    readings = found["edge_agent_readings"]
    assert readings.sum.is_monotonic
    assert readings.sum.aggregation_temporality == 2
    (point,) = readings.sum.data_points
    assert (point.as_double, attributes(point)) == (7.0, {"source": "plc"})
    assert 0 < point.start_time_unix_nano <= point.time_unix_nano
    assert found["edge_agent_sensors"].gauge.data_points[0].as_double == 51
    assert "edge_agent_p_value" not in found
    (histogram,) = found["edge_agent_tick_seconds"].histogram.data_points
    assert histogram.count == 3
    assert histogram.sum == pytest.approx(9.0004)
    assert list(histogram.explicit_bounds) == list(metrics.tick_seconds.labels("score").bounds)
    assert list(histogram.bucket_counts) == metrics.tick_seconds.labels("score").counts
    assert found["edge_agent_tick_seconds"].unit == "s"


async def test_resource_names_the_gateway(receiver: Receiver) -> None:
    export = exporter(options(receiver.endpoint, signals=["metrics"], resource={"site": "north"}))
    export.start()
    await export.stop()
    said = attributes(receiver.requests["/v1/metrics"][0].resource_metrics[0].resource)
    assert said["service.name"] == "edge-agent"
    assert said["service.instance.id"] == "gateway-7"
    assert said["service.version"] == "1.2.3"
    assert said["site"] == "north"


async def test_a_tick_becomes_a_root_span_with_a_child_for_each_stage(receiver: Receiver) -> None:
    export = exporter(options(receiver.endpoint, signals=["traces"]))
    export.start()
    export.trace(tick(42, incidents=("01H",)))
    await export.stop()
    root, *children = receiver.spans()
    assert (root.name, root.parent_span_id) == ("tick", b"")
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (T0, T0 + 5000)
    assert attributes(root) == {"tick": 42, "sensors": 51, "score": 1.5, "p_value": 0.25, "incidents": ["01H"]}
    assert [child.name for child in children] == ["intake", "graph", "score", "decide", "deliver"]
    assert {child.parent_span_id for child in children} == {root.span_id}
    assert {len(root.trace_id), len(root.span_id)} == {16, 8}
    assert len({span.span_id for span in receiver.spans()}) == 6


async def test_a_followed_reading_has_a_trace_from_arrival_to_incident(receiver: Receiver) -> None:
    export = exporter(options(receiver.endpoint, signals=["traces"]))
    export.start()
    export.trace(tick(1, ReadingTrace("tank.level", "plc", T0 - 3000, T0 - 2000), incidents=("01H",)))
    await export.stop()
    spans = receiver.spans()
    value, intake, wait, scored = spans[-4:]
    assert [span.name for span in spans[-4:]] == ["value", "intake", "wait", "tick"]
    assert attributes(value) == {"sensor": "tank.level", "source": "plc"}
    assert (value.start_time_unix_nano, value.end_time_unix_nano) == (T0 - 3000, T0 + 5000)
    assert attributes(value.events[0]) == {"incident": "01H"}
    assert (wait.start_time_unix_nano, wait.end_time_unix_nano) == (T0 - 2000, T0)
    assert {intake.parent_span_id, wait.parent_span_id, scored.parent_span_id} == {value.span_id}
    assert scored.links[0].trace_id == spans[0].trace_id != value.trace_id


async def test_log_records_arrive_with_severity_logger_and_stack(receiver: Receiver, logger: logging.Logger) -> None:
    export = exporter(options(receiver.endpoint, signals=["logs"]))
    assert export.log_handler is not None
    logger.addHandler(export.log_handler)
    export.start()
    logger.warning("source %s is away", "plc \udcff")
    try:
        raise OSError("cable")
    except OSError:
        logger.exception("failed")
    await export.stop()
    (scope, first), (_, second) = receiver.logs()
    assert scope == "plant.test"
    assert (first.severity_number, first.severity_text) == (13, "WARNING")
    assert first.body.string_value == "source plc ? is away"
    assert "OSError: cable" in str(attributes(second)["exception.stacktrace"])


async def test_record_whose_arguments_do_not_fit_is_not_raised_into_the_program(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    export = exporter(options(receiver.endpoint, signals=["logs"]))
    assert export.log_handler is not None
    export.log_handler.handle(logging.LogRecord("plant", logging.INFO, "f.py", 1, "%d", ("text",), None))
    assert "Logging error" in capsys.readouterr().err


async def test_secret_headers_are_sent_and_never_shown(receiver: Receiver) -> None:
    opts = options(receiver.endpoint, signals=["metrics"], headers={"Authorization": "Bearer hidden"})
    export = exporter(opts)
    export.start()
    await export.stop()
    assert receiver.headers[0]["Authorization"] == "Bearer hidden"
    assert "hidden" not in repr(opts)
    assert "hidden" not in opts.model_dump_json()


async def test_what_was_made_while_the_collector_was_down_at_start_arrives_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_agent.export")
    port = free_port()
    export = exporter(options(f"http://127.0.0.1:{port}"))
    export.start()
    export.trace(tick(1))
    try:
        await asyncio.to_thread(wait_until, lambda: "OTLP export fails" in caplog.text, "failure said")
        receiver = Receiver(port)
        try:
            await asyncio.to_thread(wait_until, lambda: len(receiver.spans()) == 6, "spans after the start")
            await asyncio.to_thread(wait_until, lambda: "works again" in caplog.text, "recovery said")
        finally:
            await export.stop()
            receiver.close()
    finally:
        await export.stop()
    assert caplog.text.count("OTLP export fails") == 1
    assert f"http://127.0.0.1:{port}/v1/metrics: [Errno 111] Connection refused" in caplog.text


async def test_collector_away_in_between_loses_no_span_and_repeats_none(receiver: Receiver) -> None:
    export = exporter(options(receiver.endpoint, signals=["traces"]))
    export.start()
    export.trace(tick(1))
    await asyncio.to_thread(wait_until, lambda: len(receiver.spans()) == 6, "first tick")
    receiver.status = 503
    export.trace(tick(2))
    await asyncio.to_thread(wait_until, lambda: receiver.refused >= 2, "two refusals")
    receiver.status = 200
    export.trace(tick(3))
    await export.stop()
    ticks = [attributes(span)["tick"] for span in receiver.spans() if span.name == "tick"]
    assert ticks == [1, 2, 3]


async def test_full_queue_drops_the_oldest_and_counts() -> None:
    metrics = Metrics()
    export = exporter(options(f"http://127.0.0.1:{free_port()}", signals=["traces"], capacity=16), metrics)
    for number in range(20):
        export.trace(tick(number))
    assert metrics.otlp_dropped.labels("traces").value == 4
    export.start()
    await export.stop()
    assert metrics.otlp_dropped.labels("traces").value == 20


async def test_refused_batch_is_counted_and_not_sent_again(receiver: Receiver) -> None:
    metrics = Metrics()
    receiver.status = 400
    export = exporter(options(receiver.endpoint, signals=["traces"]), metrics)
    export.start()
    export.trace(tick(1))
    await asyncio.to_thread(wait_until, lambda: receiver.refused == 1, "refusal")
    receiver.status = 200
    await export.stop()
    assert receiver.spans() == []
    assert metrics.otlp_dropped.labels("traces").value == 1


async def test_partly_taken_batch_counts_what_was_left_out(receiver: Receiver) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 5
    receiver.body = answer.SerializeToString()
    metrics = Metrics()
    export = exporter(options(receiver.endpoint, signals=["traces"]), metrics)
    export.start()
    export.trace(tick(1))
    await export.stop()
    assert metrics.otlp_dropped.labels("traces").value == 5


async def test_answer_that_is_not_protobuf_is_no_failure(receiver: Receiver) -> None:
    receiver.body = b"\xff" * 100_000
    metrics = Metrics()
    export = exporter(options(receiver.endpoint, signals=["traces", "logs"]), metrics)
    export.start()
    export.trace(tick(1))
    await export.stop()
    assert len(receiver.spans()) == 6
    assert metrics.otlp_dropped.labels("traces").value == 0


async def test_redirect_is_not_followed(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.status = 302
    export = exporter(options(receiver.endpoint, signals=["metrics"]))
    export.start()
    await export.stop()
    assert "answered 302" in caplog.text
    assert "check `telemetry` in the configuration" in caplog.text


async def test_silent_collector_delays_neither_the_loop_nor_stop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        export = exporter(options(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout="1s"))
        export.start()
        begin = time.monotonic()
        export.trace(tick(1))
        assert time.monotonic() - begin < 0.1
        await export.stop(deadline_s=0.3)
        assert time.monotonic() - begin < 1.5
        thread = next((t for t in threading.enumerate() if t.name == "otlp-export"), None)
        if thread is not None:
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


async def test_without_endpoint_nothing_is_started() -> None:
    export = OtlpExporter(TelemetryOptions(), Metrics(), "gateway-7", "1.2.3")
    export.start()
    assert export.log_handler is None
    assert not export.samples(0)
    export.trace(tick(1))
    assert "otlp-export" not in {thread.name for thread in threading.enumerate()}
    await export.stop()


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.25, 1.0])
def test_ratio_of_ticks_is_sampled(ratio: float) -> None:
    export = exporter(options("http://127.0.0.1:1", trace_ratio=ratio))
    assert sum(map(export.samples, range(10_000))) == pytest.approx(10_000 * ratio, abs=1)


def test_traces_that_are_not_asked_for_are_not_sampled() -> None:
    assert not exporter(options("http://127.0.0.1:1", signals=["logs"], trace_ratio=1)).samples(0)


def test_ca_file_that_cannot_be_read_stops_the_start() -> None:
    export = exporter(options("https://127.0.0.1:1", ca_file="/nonexistent.pem"))
    with pytest.raises(ConfigError, match=r"telemetry\.ca_file: cannot read certificates from '/nonexistent\.pem'"):
        export.start()


@pytest.mark.parametrize(
    "endpoint",
    ["collector:4318", "ftp://a", "http://", "http://u:p@a:1", "http://a:99999", "http://a:0", "http://a/?x=1", ""],
)
def test_endpoint_that_is_no_http_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="expected the address of an OTLP/HTTP collector"):
        options(endpoint)


def test_slash_at_the_end_of_the_endpoint_is_harmless() -> None:
    assert options("http://a:4318/").endpoint == "http://a:4318"


@pytest.mark.parametrize(("name", "value"), [("a b", "x"), ("", "x"), ("a", "x\r\nHost: b"), ("a\n", "x"), ("a", "ä")])
def test_header_that_could_smuggle_another_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        options("http://a:1", headers={name: value})


def test_every_signal_is_exported_unless_chosen() -> None:
    assert set(TelemetryOptions().signals) == set(Signal)
