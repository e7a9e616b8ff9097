"""``run`` as a process of its own, and the commands that talk to it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from click.testing import Result

from edge_agent.clock import SystemClock
from edge_agent.history import History, HistoryOptions
from edge_agent.metrics import Metrics
from edge_agent.verdict import Incident, IncidentKind, IncidentState, Severity

Run = Callable[..., Result]
EDGE_AGENT = [sys.executable, "-m", "edge_agent"]
DEADLINE_S = 20.0
INCIDENT = "01ABCDEFGHJKMNPQRSTVWXYZ00"
OTHER = "01ABCDEFGHJLMNPQRSTVWXYZ11"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def daemon_config(config: Path) -> Path:
    config.write_text(config.read_text() + f"api: {{listen: '127.0.0.1:{free_port()}'}}\ntick: {{period: 100ms}}\n")
    return config


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "log").open("wb") as file:
        yield file


@pytest.fixture
def daemon(daemon_config: Path, log_file: IO[bytes], run: Run) -> Iterator[subprocess.Popen[bytes]]:
    command = [*EDGE_AGENT, "run", "-c", str(daemon_config)]
    process = subprocess.Popen(command, stderr=log_file, stdout=subprocess.DEVNULL)
    try:
        wait_until_it_answers(run, daemon_config, process)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_it_answers(run: Run, config: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while run("status", "-c", config).exit_code != 0:
        assert process.poll() is None, (config.parent / "log").read_text()
        assert time.monotonic() < deadline, "the daemon does not answer"
        time.sleep(0.05)


def log_lines(config: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (config.parent / "log").read_text().splitlines()]


@pytest.mark.usefixtures("daemon")
def test_status_shows_the_daemon(run: Run, daemon_config: Path) -> None:
    result = run("status", "-c", daemon_config, "--json")
    assert result.exit_code == 0
    assert "plc" in result.output
    assert "plc" in run("status", "-c", daemon_config).output


@pytest.mark.usefixtures("daemon")
def test_reload_with_a_mistake_is_refused_and_told(run: Run, daemon_config: Path) -> None:
    daemon_config.write_text(daemon_config.read_text() + "modle: {}\n")
    result = run("reload", "-c", daemon_config, "--url", f"http://{address_in(daemon_config)}")
    assert result.exit_code == 2  # the same file is read here, for address and token
    assert "modle: is not a section; did you mean 'model'?" in result.stderr


@pytest.mark.usefixtures("daemon")
def test_reload_takes_a_change(run: Run, daemon_config: Path) -> None:
    daemon_config.write_text(daemon_config.read_text() + "decision: {contributors: 5}\n")
    assert run("reload", "-c", daemon_config).exit_code == 0


@pytest.mark.usefixtures("daemon")
def test_rollback_without_a_previous_model_is_refused(run: Run, daemon_config: Path) -> None:
    result = run("model", "rollback", "-c", daemon_config)
    assert result.exit_code == 4
    assert result.stderr.startswith("Error: ")


@pytest.mark.usefixtures("daemon")
def test_change_without_token_is_refused(run: Run, daemon_config: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "api-token").unlink()
    result = run("reload", "-c", daemon_config)
    assert result.exit_code == 4
    assert "token" in result.stderr


def test_export_of_a_history_that_the_disk_does_not_take_is_told_to_be_incomplete(
    run: Run, daemon_config: Path, log_file: IO[bytes]
) -> None:
    asyncio.run(keep_incidents(daemon_config.parent / "data/history.db", INCIDENT))
    limit = 33_000  # of a file: SQLite's index of its log fits, some pages of the log do

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*EDGE_AGENT, "run", "-c", str(daemon_config)]
    process = subprocess.Popen(command, stderr=log_file, stdout=subprocess.DEVNULL, preexec_fn=full_disk)
    try:
        wait_until_it_answers(run, daemon_config, process)
        assert run("history", "export", "-c", daemon_config).exit_code == 0
        for number in range(20):
            note = f"{number}: {'x' * 900}"
            said = run("incidents", "feedback", INCIDENT, "false_alarm", "--note", note, "-c", daemon_config)
            if said.exit_code != 0:
                break
        assert "could not be written" in said.stderr
        assert INCIDENT in run("incidents", "list", "-c", daemon_config).output  # reading goes on, and changes nothing:
        result = run("history", "export", "-c", daemon_config)
        assert result.exit_code == 1
        assert INCIDENT in result.stdout
        assert "not complete: the disk does not take the history" in result.stderr
    finally:
        process.kill()
        process.wait()


async def keep_incidents(path: Path, *ids: str) -> None:
    path.parent.mkdir()
    history = await History.open(path, HistoryOptions(), Metrics(), SystemClock())
    at = SystemClock().wall_ns()
    kind, state, severity = IncidentKind.PROCESS, IncidentState.CLOSED, Severity.LOW
    for one in ids:
        await history.record(Incident(one, kind, state, severity, at, at, at, 0, 1, 0.1, 1.0, "level high", ()))
    await history.close()


@pytest.fixture
def two_incidents(daemon_config: Path) -> None:
    asyncio.run(keep_incidents(daemon_config.parent / "data/history.db", INCIDENT, OTHER))


@pytest.mark.usefixtures("two_incidents", "daemon")
def test_the_unique_end_or_beginning_of_an_id_is_enough(run: Run, daemon_config: Path) -> None:
    config = ("-c", daemon_config)
    assert f"id: {OTHER}" in run("incidents", "show", "wxyz11", *config).stdout
    assert run("incidents", "feedback", "01ABCDEFGHJL", "false_alarm", *config).stdout.startswith(f"{OTHER}: false")
    several = run("incidents", "show", "01ABCDEF", *config)
    assert (several.exit_code, f"2 ids begin or end with '01ABCDEF', expected one: {OTHER}, " in several.stderr) == (
        2,
        True,
    )
    for unknown in ("XYZ11", "NOBODY", "01ABCDEFGHJKMNPQRSTVWXYZ99"):  # the first is too short
        none = run("incidents", "acknowledge", unknown, *config)
        assert none.exit_code == 4
        assert f"no incident has the id '{unknown}'; `edge-agent incidents list` shows the latest" in none.stderr
    order = json.loads(run("incidents", "suppress", "--sensors", "level", "--for", "1h", "--json", *config).stdout)[
        "id"
    ]
    assert run("incidents", "lift", order[-6:], *config).stdout == f"{order}: lifted\n"
    none = run("incidents", "lift", order, *config)
    assert f"no order has the id '{order}'; `edge-agent incidents orders` shows all" in none.stderr


def test_sigterm_stops_in_order_with_exit_0(daemon: subprocess.Popen[bytes], daemon_config: Path) -> None:
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(DEADLINE_S) == 0
    assert all({"time", "level", "logger", "message"} <= set(line) for line in log_lines(daemon_config))


def test_broken_configuration_does_not_start(daemon_config: Path) -> None:
    daemon_config.write_text("tick: {period: 5}\n")
    done = subprocess.run([*EDGE_AGENT, "run", "-c", str(daemon_config)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tick.period: got 5, expected a duration" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_configuration_says_how_to_make_one(tmp_path: Path) -> None:
    command = [*EDGE_AGENT, "run", "-c", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "`edge-agent init` writes a sample" in done.stderr


def address_in(config: Path) -> str:
    line = next(line for line in config.read_text().splitlines() if line.startswith("api:"))
    return line.split("'")[1]
