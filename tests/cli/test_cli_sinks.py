from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def routed(tmp_path: Path) -> Path:
    """A mail desk with a digest that escalates to a pager, and a web service that is down."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    path = tmp_path / "agent.yaml"
    path.write_text(
        f"""
agent: {{name: press-7, data_dir: data}}
sources: {{plc: {{type: modbus, host: 127.0.0.1, port: 9, devices: [{{registers: [{{name: LIT101, address: 0}}]}}]}}}}
sensors: {{LIT101: {{area: boiler}}}}
sinks:
  mail:
    type: file
    path: {tmp_path}/mail.jsonl
    areas: [boi*]
    sensors: [LIT*]
    digest: {{every: 1h}}
    escalate: {{after: 15m, to: pager}}
  pager: {{type: file, path: {tmp_path}/pager.jsonl, severity: critical}}
  quiet: {{type: file, path: {tmp_path}/quiet.jsonl, events: [status]}}
  hook: {{type: webhook, url: "http://127.0.0.1:{port}/x", events: [status]}}
"""
    )
    return path


def test_a_test_incident_is_delivered_and_marked(run: Run, routed: Path) -> None:
    result = run("sinks", "test", "mail", "-c", routed)
    assert result.exit_code == 0
    routing, outcome = result.stdout.splitlines()
    assert routing == (
        "routing: such an incident is told at once; also told: pager; not acknowledged for 15m: pager is told"
    )
    assert outcome.startswith("mail: delivered in ")
    lines = [json.loads(line) for line in (routed.parent / "mail.jsonl").read_text().splitlines()]
    assert [line["body"]["state"] for line in lines] == ["open", "closed"]
    assert all(line["body"]["test"] is True and line["body"]["summary"].startswith("TEST") for line in lines)
    assert lines[0]["body"]["agent"] == "press-7"
    assert not (routed.parent / "pager.jsonl").exists(), "only the sink that was asked for is told"


@pytest.mark.parametrize(
    ("name", "options", "routing"),
    [
        ("pager", ["--severity", "high"], "such an incident is not told here (option `severity`)"),
        ("mail", ["--area", "intake"], "such an incident is not told here (option `areas`); also told: pager"),
        ("mail", ["--sensor", "FIT101"], "such an incident is not told here (option `sensors`); also told: pager"),
        ("quiet", ["--severity", "low"], "this sink is told no incidents (option `events`)"),
        (
            "mail",
            ["--severity", "high"],
            "such an incident waits for the digest, each 1h; not acknowledged for 15m: pager is told",
        ),
    ],
)
def test_what_the_routing_holds_back_is_said_and_delivered_all_the_same(
    run: Run, routed: Path, name: str, options: list[str], routing: str
) -> None:
    result = run("sinks", "test", name, *options, "-c", routed, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["delivered"], report["problem"]) == (0, True, None)
    assert report["routing"] == routing
    assert len((routed.parent / f"{name}.jsonl").read_text().splitlines()) == 2


def test_a_sink_that_cannot_be_reached_is_exit_1_and_says_why(run: Run, routed: Path) -> None:
    result = run("sinks", "test", "hook", "-c", routed)
    assert result.exit_code == 1
    assert "hook: not delivered: http://127.0.0.1:" in result.stderr
    assert "cannot connect: Connection refused" in result.stderr


def test_an_unknown_sink_is_exit_2_with_the_nearest_name(run: Run, routed: Path) -> None:
    result = run("sinks", "test", "mial", "-c", routed)
    assert result.exit_code == 2
    assert (
        f"{routed}: sinks: got 'mial', expected one of mail, pager, quiet, hook; did you mean 'mail'?" in result.stderr
    )


def test_a_list_needs_the_daemon(run: Run, routed: Path) -> None:
    result = run("sinks", "list", "-c", routed, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 3
