from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_good_file_is_exit_0(run: Run, config: Path) -> None:
    result = run("check", config)
    assert (result.exit_code, result.stdout) == (0, f"{config}: ok, 1 source, 1 sink\n")


def test_every_mistake_is_printed_and_exit_is_2(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + "tick: {period: 5}\nmodle: {}\n")
    result = run("check", config)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{config}:6: tick.period: got 5, expected a duration with its unit, such as 250ms, 5s, 2m, 1h or 7d",
        f"{config}:7: modle: is not a section; did you mean 'model'?",
    ]


def test_json_holds_the_mistakes(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + "modle: {}\n")
    result = run("check", config, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], len(found["problems"])) == (2, False, 1)


def test_file_that_is_not_there_is_exit_2(run: Run, tmp_path: Path) -> None:
    result = run("check", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "cannot be read: No such file or directory" in result.stderr


def test_configuration_without_sinks_gets_a_note(run: Run, config: Path) -> None:
    config.write_text(
        "".join(line for line in config.read_text().splitlines(True) if "log" not in line and "sinks" not in line)
    )
    result = run("check", config)
    assert result.exit_code == 0
    assert "note: sinks: there are none" in result.stderr


def test_connect_says_what_cannot_be_reached(run: Run, config: Path) -> None:
    result = run("check", config, "--connect", "--timeout", "0.5", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [item["component"] for item in found["reached"]] == ["sources.plc", "sinks.log"]
    assert found["reached"][0]["problem"]
    assert found["reached"][1]["problem"] is None


def test_connect_gives_up_at_the_deadline(run: Run, config: Path, silent_server: int) -> None:
    config.write_text(config.read_text().replace("port: 9", f"port: {silent_server}, timeout: 30s"))
    result = run("check", config, "--connect", "--timeout", "0.3")
    assert result.exit_code in (0, 1)  # a port that accepts is reached for some protocols; it must not hang
