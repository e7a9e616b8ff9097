"""What a scrape gets, read back by Prometheus' own parser and by promtool."""

import math
import subprocess
import sys
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from edge_agent.export.prometheus import PrometheusRenderer, render
from edge_agent.metrics import Metrics

HOSTILE = 'a"b\\c\nd{}=,\u2028é'


def filled() -> Metrics:
    """Every family with a series."""
    metrics = Metrics()
    for family in metrics.families():
        child = family.labels(*[f"{name}-1" for name in family.label_names])
        if hasattr(child, "observe"):
            child.observe(0.002)
        else:
            child.value = 1.0
    return metrics


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in parse(text.decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_every_family_is_rendered_under_its_own_name() -> None:
    metrics = filled()
    names = {name for name, _ in samples(render(metrics)[0])}
    for family in metrics.families():
        assert family.name in names or f"{family.name}_count" in names


def test_histogram_buckets_are_cumulative() -> None:
    metrics = Metrics()
    for seconds in (1e-5, 0.002, 0.002, 60.0):
        metrics.tick_seconds.labels("score").observe(seconds)
    found = samples(render(metrics)[0])
    name = "edge_agent_tick_seconds"
    assert found[f"{name}_bucket", (("le", "5e-05"), ("stage", "score"))] == 1
    assert found[f"{name}_bucket", (("le", "0.0025"), ("stage", "score"))] == 3
    assert found[f"{name}_bucket", (("le", "5.0"), ("stage", "score"))] == 3
    assert found[f"{name}_bucket", (("le", "+Inf"), ("stage", "score"))] == 4
    assert found[f"{name}_count", (("stage", "score"),)] == 4
    assert found[f"{name}_sum", (("stage", "score"),)] == pytest.approx(60.00401)


def test_hostile_label_values_come_back_unchanged() -> None:
    metrics = Metrics()
    metrics.readings.labels(HOSTILE).inc(3)
    assert samples(render(metrics)[0])["edge_agent_readings_total", (("source", HOSTILE),)] == 3


def test_nan_is_said_as_nan() -> None:
    metrics = Metrics()
    metrics.p_value.labels().set(math.nan)
    assert math.isnan(samples(render(metrics)[0])["edge_agent_p_value", ()])


def test_removed_series_is_gone_at_the_next_scrape() -> None:
    metrics = Metrics()
    renderer = PrometheusRenderer(metrics)
    metrics.sink_up.labels("hook").set(1)
    assert b'sink="hook"' in renderer.render()[0]
    metrics.sink_up.remove("hook")
    assert b'sink="hook"' not in renderer.render()[0]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html;q=\xff,,;;", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("Application/OpenMetrics-Text;version=x,*/*", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_accept_header_chooses_the_format(accept: str, content_type: str) -> None:
    assert render(Metrics(), accept)[1] == content_type


def test_openmetrics_is_complete_and_valid() -> None:
    body, _ = render(filled(), "application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert {family.name for family in parse_openmetrics(body.decode())} >= {"edge_agent_readings", "edge_agent_sensors"}


def test_memory_and_cpu_of_the_process_are_there() -> None:
    found = samples(render(Metrics())[0])
    assert found["process_resident_memory_bytes", ()] > 1e6
    assert found["process_cpu_seconds_total", ()] >= 0


def test_nothing_is_registered_process_wide() -> None:
    from prometheus_client import REGISTRY

    render(filled())
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("edge_agent")]


def test_importing_the_module_does_not_load_the_library() -> None:
    code = "import sys, edge_agent.export.prometheus; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scrape_in_another_thread_bears_series_that_come_and_go() -> None:
    metrics = filled()
    renderer = PrometheusRenderer(metrics)
    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.extend(renderer.render()[0] for _ in range(20)))
    thread.start()
    number = 0
    while thread.is_alive():
        number += 1
        metrics.readings.labels(f"s{number % 50}").inc()
        metrics.readings.remove(f"s{(number + 25) % 50}")
    thread.join()
    assert len(results) == 20


@pytest.mark.counterpart
def test_promtool_finds_nothing_to_complain_about() -> None:
    body, _ = render(filled())
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
