"""`edge-agent check` beside what came over the air: what is in use, and where each option is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.app import cli
from edge_agent.config import overlay_path

BASE = """\
agent: {data_dir: data}
sources:
  plc: {type: modbus, host: 10.0.0.5, devices: [{registers: [{name: level, address: 0}]}]}
sinks:
  hook: {type: webhook, url: 'https://a.example/x', signing_key: a-secret-key, headers: {X-Key: 'b-secret ${env:K}'}}
  mq: {type: mqtt, host: b, username: u, password: '${env:K}'}
sensors:
  level: {min: 0, max: 10, unit: mm}
"""
SPRING = "sensors:\n  level:\n    max: 20\n    unit: null\nrules: {low: {sensors: [level], limit: {below: 1}}}\n"


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K", "c-secret")
    (tmp_path / "agent.yaml").write_text(BASE)
    (tmp_path / "spring.yaml").write_text(SPRING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*args: str) -> Result:
    return CliRunner().invoke(cli, ["check", "agent.yaml", *args], prog_name="edge-agent")


def keep(folder: Path, text: str) -> None:
    overlay_path(folder / "data").parent.mkdir(parents=True, exist_ok=True)
    overlay_path(folder / "data").write_text(text)


def test_every_option_is_shown_with_its_origin_and_no_secret(gateway: Path) -> None:
    result = check("--overlay", "spring.yaml", "--effective")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for line in (
        "sensors.level.min: 0  # agent.yaml:8",
        "sensors.level.max: 20  # spring.yaml: line 3",
        "# sensors.level.unit: gone  # spring.yaml: line 4",
        'rules.low.sensors[0]: "level"  # spring.yaml: line 5',
        "sinks.hook.signing_key: ***  # agent.yaml:5",
        "sinks.hook.headers.X-Key: ***  # agent.yaml:5",
        'sinks.mq.password: "${env:K}"  # agent.yaml:6',
        "tick.period: 1s  # default",
    ):
        assert line in lines
    assert "-secret" not in result.output


def test_what_is_in_force_is_checked_with_the_file(gateway: Path) -> None:
    keep(gateway, SPRING)
    result = check("--json", "--effective")
    told = json.loads(result.stdout)
    assert told["ok"] is True
    assert told["notes"][0] == (
        "config over the air: sets otherwise what this file says of sensors.level.max, sensors.level.unit"
    )
    assert {"option": "sensors.level.max", "value": "20", "origin": "config over the air: line 3"} in told["effective"]


def test_what_would_be_left_out_is_a_note_and_no_mistake_of_the_file(gateway: Path) -> None:
    keep(gateway, "sensors: {level: {max: -3}}")
    result = check()
    assert result.exit_code == 0
    assert (
        "sensors.level: min is 0 and max is -3, expected min below max; the agent would leave it out" in result.stderr
    )


def test_mistakes_of_an_overlay_that_is_tried_are_mistakes(gateway: Path) -> None:
    (gateway / "spring.yaml").write_text("\napi: {}\n")
    result = check("--overlay", "spring.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        "spring.yaml: line 2: api: can never come over the air; it is set in the gateway's own file only\n"
    )
