"""``edge-agent rules`` on recordings and on kept readings, and what `check` says of rules."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.app import cli
from edge_agent.clock import VirtualClock
from edge_agent.graph.snapshot import Snapshot
from edge_agent.history import History, HistoryOptions
from edge_agent.metrics import Metrics

Run = Callable[..., Result]
T0 = 1_760_000_000
RULES = """
agent: {data_dir: data}
sensors:
  FIT101: {unit: m3/h}
  "tank.*": {unit: "%", max: 120}
rules:
  dry-run:
    when: P101 == on and FIT101 < 0.1 for 30s
    severity: critical
    message: "P101 runs dry, the flow is {FIT101}"
    clear_after: 5s
  tank-high:
    sensors: ["tank.*.level"]
    limit: {above: 90, deadband: 5}
    clear_after: 0s
  off:
    when: FIT101 > 1
    enabled: false
"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text(RULES)
    return path


def readings(rows: int = 300) -> tuple[tuple[str, ...], np.ndarray]:
    values = np.tile([1.0, 1.5, 50.0], (rows, 1))
    values[100:150, 1] = 0.05
    values[200:210, 2] = 95.0
    values[210:220, 2] = 87.0
    return ("P101", "FIT101", "tank.1.level"), values


def table(path: Path, columns: tuple[str, ...], values: np.ndarray, times: list[int] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", *columns])
        for row, reading in enumerate(values.tolist()):
            cells = ["" if cell != cell else cell for cell in reading]
            writer.writerow([T0 + row if times is None else times[row], *cells])
    return path


def test_times_and_durations_are_told(run: Run, agent: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "d.csv", *readings())
    done = run("rules", "test", "-c", agent, "--data", data, "--json")
    assert done.exit_code == 0, done.stderr
    rules = json.loads(done.stdout)["rules"]
    assert list(rules) == ["dry-run", "tank-high"]
    (dry,) = rules["dry-run"]["incidents"]
    # True from row 100 to 149: it holds at 130, is false from 150 on, and ends five seconds later.
    assert (dry["opened"], dry["lasted_s"]) == ("2025-10-09T08:55:30.000Z", 25.0)
    assert dry["summary"] == "P101 runs dry, the flow is 0.05 m3/h"
    (high,) = rules["tank-high"]["incidents"]
    assert (high["opened"], high["lasted_s"]) == ("2025-10-09T08:56:40.000Z", 20.0)
    assert rules["dry-run"]["judged"] == rules["dry-run"]["ticks"] == 300


def test_text_for_people(run: Run, agent: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "d.csv", *readings())
    done = run("rules", "test", "-c", agent, "--data", data, "--rule", "dry-run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "RULE     TIMES  TOTAL  LONGEST  JUDGED",
        "dry-run  1      25s    25s      100 %",
        "dry-run: 2025-10-09T08:55:30.000Z  25s  P101 runs dry, the flow is 0.05 m3/h",
    ]


def test_missing_sensors_are_named(run: Run, agent: Path, tmp_path: Path) -> None:
    columns, values = readings()
    data = table(tmp_path / "d.csv", columns[:1] + columns[2:], values[:, [0, 2]])
    done = run("rules", "test", "-c", agent, "--data", data)
    assert done.exit_code == 1
    assert "note: dry-run: no reading of FIT101" in done.stderr


def test_what_holds_at_the_end_goes_on(run: Run, agent: Path, tmp_path: Path) -> None:
    columns, values = readings()
    data = table(tmp_path / "d.csv", columns, values[:205])
    done = run("rules", "test", "-c", agent, "--data", data, "--rule", "tank-high", "--json")
    (high,) = json.loads(done.stdout)["rules"]["tank-high"]["incidents"]
    assert (high["closed"], high["lasted_s"]) == (None, 4.0)


def test_a_gap_makes_sensors_missing(run: Run, agent: Path, tmp_path: Path) -> None:
    agent.write_text("rules:\n  lost: {when: missing(FIT101), clear_after: 0s}\n")
    columns, values = readings()
    times = [T0 + row + (600 if row >= 100 else 0) for row in range(300)]
    done = run("rules", "test", "-c", agent, "--data", table(tmp_path / "d.csv", columns, values, times), "--json")
    (lost,) = json.loads(done.stdout)["rules"]["lost"]["incidents"]
    assert lost["lasted_s"] == pytest.approx(600 - 60, abs=2)


def test_a_disabled_rule_is_tried_when_it_is_named(run: Run, agent: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "d.csv", *readings())
    done = run("rules", "test", "-c", agent, "--data", data, "--rule", "off", "--fail-on-incident")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].split()[:2] == ["off", "2"]


async def test_kept_readings_are_not_scaled_again(agent: Path, tmp_path: Path) -> None:
    agent.write_text(RULES.replace("{unit: m3/h}", "{unit: m3/h, scale: 100}"))
    columns, values = readings()
    options = HistoryOptions.model_validate({"readings": {"every": "1s"}})
    history = await History.open(tmp_path / "data" / "history.db", options, Metrics(), VirtualClock())
    for second, row in enumerate(values):
        history.observe(seen(columns, row, second), alarm=False)
    await history.close()
    # A loop is running here, and commands start one of their own.
    done = await asyncio.to_thread(CliRunner().invoke, cli, ["rules", "test", "-c", str(agent), "--history", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["rules"]["dry-run"]["times"] == 1


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"readings": {"every": "1s", "block": "30m"}}, "the daemon writes them once in 30m (history.readings.block)"),
        ({}, "holds no readings; set history.readings.every"),
    ],
)
async def test_readings_that_are_not_written_yet_are_not_for_want_of_an_option(
    agent: Path, tmp_path: Path, kept: dict[str, dict[str, str]], message: str
) -> None:
    agent.write_text(RULES + f"history: {json.dumps(kept)}\n")
    options = HistoryOptions.model_validate(kept)
    history = await History.open(tmp_path / "data" / "history.db", options, Metrics(), VirtualClock())
    columns, values = readings()
    history.observe(seen(columns, values[0], 0), alarm=False)
    done = await asyncio.to_thread(CliRunner().invoke, cli, ["rules", "test", "-c", str(agent), "--history"])
    await history.close()
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


def seen(columns: tuple[str, ...], row: np.ndarray, second: int) -> Snapshot:
    count = len(columns)
    zeros, usable = np.zeros(count), np.ones(count, np.bool_)
    flags, neighbour = np.zeros(count, np.int32), np.full((count, 1), -1)
    time_ns = (T0 + second) * 10**9
    return Snapshot(second, time_ns, 0, columns, row, zeros.astype(np.float32), flags, usable, neighbour)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give either --data FILE or --history"),
        (("--history",), "not found, expected a history of the daemon"),
        (("--history", "--rule", "dry-rum"), "'dry-rum' is not a rule of"),
        (("--history", "--rule", "dry-rum"), "did you mean 'dry-run'?"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run: Run, agent: Path, args: tuple[str, ...], message: str) -> None:
    done = run("rules", "test", "-c", agent, *args)
    assert done.exit_code == 2
    assert message in done.stderr


def test_no_rules_are_told(run: Run, agent: Path, tmp_path: Path) -> None:
    agent.write_text("agent: {data_dir: data}\n")
    data = table(tmp_path / "d.csv", *readings())
    done = run("rules", "test", "-c", agent, "--data", data)
    assert (done.exit_code, "there are none to try" in done.stderr) == (2, True)
    assert "has no rules" in run("rules", "list", "-c", agent).stdout


def test_list(run: Run, agent: Path) -> None:
    done = run("rules", "list", "-c", agent)
    assert done.stdout.splitlines() == [
        "RULE       SEVERITY  ENABLED  SAYS",
        "dry-run    critical  yes      P101 == on and FIT101 < 0.1 for 30s",
        "tank-high  medium    yes      limit above 90, deadband 5 of tank.*.level",
        "off        medium    no       FIT101 > 1",
    ]
    shown = json.loads(run("rules", "list", "-c", agent, "--json").stdout)
    assert shown["dry-run"]["when"] == "P101 == on and FIT101 < 0.1 for 30s"


def test_check_names_what_looks_misspelt(run: Run, config: Path) -> None:
    config.write_text(
        config.read_text()
        + "sensors: {FIT101: {unit: m3/h}}\nrules: {a: {when: FIT110 > 1}, b: {when: something.else > 1}}\n"
    )
    done = run("check", config)
    assert done.exit_code == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if "rules" in line]
    assert notes == ["note: rules.a: sensor 'FIT110' is not in this file; did you mean 'FIT101'?"]


@pytest.mark.parametrize(("pattern", "noted"), [("boiler.*", False), ("boiler.fl?w", False), ("*", True)])
def test_check_takes_what_a_pattern_covers_for_spelt_right(run: Run, config: Path, pattern: str, noted: bool) -> None:
    sensors = f"sensors: {{boiler.pump: {{unit: rpm}}, '{pattern}': {{unit: m3/h}}}}\n"
    config.write_text(config.read_text() + sensors + "rules: {dry-run: {when: boiler.flow < 1}}\n")
    done = run("check", config)
    assert done.exit_code == 0, done.stderr
    assert ("'boiler.flow' is not in this file" in done.stderr) is noted
