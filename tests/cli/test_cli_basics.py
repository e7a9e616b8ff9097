from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import Result

from edge_agent import registry
from edge_agent.cli.app import COMMANDS, EXTRA_HELP
from edge_agent.cli.exit_codes import ExitCode, exit_code
from edge_agent.errors import BundleError, ConfigError, ControlError, DataFileError

Run = Callable[..., Result]
PRINT_MODULES = "import sys, edge_agent.cli.app as a; print(*sys.modules)"


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name, (_, short_help) in COMMANDS.items():
        assert name in result.output
        assert short_help[:20] in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edge_agent.cli.app import cli\ncli(['--help'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"numpy", "pydantic", "onnxruntime", "aiohttp", "rich", "yaml", "asyncio", "torch"}


def test_help_is_instant() -> None:
    command = [sys.executable, "-m", "edge_agent", "--help"]
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_worth_reading(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0, result.output
    assert "Usage: edge-agent " + name in result.output
    assert len(result.output) > 200


def test_misspelt_command_gets_a_hint(run: Run) -> None:
    result = run("chekc")
    assert result.exit_code == 2
    assert "No such command 'chekc'. Did you mean 'check'?" in result.stderr


def test_version_is_shown(run: Run) -> None:
    assert run("--version").output.startswith("edge-agent 0.")


def test_missing_extra_is_one_sentence_and_exit_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_without_torch(group: registry.Group, name: str) -> object:
        error = ModuleNotFoundError("No module named 'torch'", name="torch")
        raise ConfigError(registry.missing_library("command 'train'", registry.extra_with("torch"), error))

    monkeypatch.setattr("edge_agent.cli.app._announced", lambda: {"train": "edge-graph-agent"})
    monkeypatch.setattr(registry, "load_object", as_without_torch)
    result = run("train", "--data", "x.csv")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: command 'train' needs 'torch', which is not installed: pip install 'edge-graph-agent[train]'\n"
    )


@pytest.mark.parametrize("when", ["loaded", "run"])
def test_library_missing_in_a_command_of_ours_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def without_amqtt(*_: object) -> click.Command:
        raise ModuleNotFoundError("No module named 'amqtt'", name="amqtt")

    command = click.Command("demo", callback=without_amqtt)
    monkeypatch.setitem(COMMANDS, "demo", (f"{__name__}:command", "x"))
    found = without_amqtt if when == "loaded" else lambda module: SimpleNamespace(command=command)
    monkeypatch.setattr("edge_agent.cli.app.import_module", found)
    result = run("demo")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: `edge-agent demo` needs 'amqtt', which is not installed: pip install 'edge-graph-agent[demo]'\n"
    )


def test_needed_extra_is_asked_for_before_the_command_begins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "missing_packages", lambda extra: ("amqtt", "paho-mqtt"))
    result = run("demo", "--seconds", "1")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: `edge-agent demo` needs amqtt, paho-mqtt, not installed here: pip install 'edge-graph-agent[demo]'\n"
    )
    for question in ("--help", "--list-attacks"):
        assert run("demo", question).exit_code == 0


def test_module_missing_of_our_own_is_a_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> None:
        raise ModuleNotFoundError("No module named 'edge_agent.gone'", name="edge_agent.gone")

    monkeypatch.setattr("edge_agent.cli.app.import_module", broken)
    assert isinstance(run("demo").exception, ModuleNotFoundError)


def test_entry_point_that_is_no_command_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.cli.app._announced", lambda: {"odd": "someone"})
    monkeypatch.setattr(registry, "load_object", lambda group, name: 5)
    result = run("odd")
    assert result.exit_code == 2
    assert "command 'odd' is a int, expected a click.Command" in result.stderr


def test_names_of_our_own_entry_points_have_help() -> None:
    assert set(registry.names(registry.Group.COMMANDS)) <= set(EXTRA_HELP) | set(COMMANDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.USAGE),
        (DataFileError("x"), ExitCode.USAGE),
        (BundleError("x"), ExitCode.FAILED),
        (ControlError("x", 503), ExitCode.NOT_RUNNING),
        (ControlError("x", 502), ExitCode.NOT_RUNNING),
        (ControlError("x", 409), ExitCode.REFUSED),
        (ControlError("x", 401), ExitCode.REFUSED),
    ],
)
def test_exit_code_of_each_error(error: ConfigError, code: ExitCode) -> None:
    assert exit_code(error) is code


# init, schema, completion, adapters


def test_init_writes_a_file_that_check_accepts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    assert run("init", path).exit_code == 0
    result = run("check", path)
    assert result.exit_code == 0, result.output


def test_init_does_not_overwrite(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("mine")
    result = run("init", path)
    assert (result.exit_code, path.read_text()) == (2, "mine")
    assert "exists already; choose another name, or overwrite it with --force" in result.stderr
    assert run("init", path, "--force").exit_code == 0
    assert path.read_text() != "mine"


def test_init_names_the_adapters_there_are(run: Run) -> None:
    result = run("init", "-", "--source", "modbuss")
    assert result.exit_code == 2
    assert "did you mean 'modbus'?" in result.stderr


def test_init_to_nowhere_says_why(run: Run, tmp_path: Path) -> None:
    result = run("init", tmp_path / "none" / "agent.yaml")
    assert result.exit_code == 2
    assert "cannot be written: No such file or directory" in result.stderr


def test_schema_is_json(run: Run) -> None:
    assert json.loads(run("schema").output)["title"] == "Configuration of edge-agent"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_asks_this_program(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_EDGE_AGENT_COMPLETE={shell}_complete" in result.output


def test_completion_completes_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from edge_agent.cli import main; main()"],
        env={**os.environ, "_EDGE_AGENT_COMPLETE": "bash_complete", "COMP_WORDS": "edge-agent ch", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,check\n"


def test_adapters_list_shows_all_kinds(run: Run) -> None:
    rows = json.loads(run("adapters", "list", "--json").output)
    assert {("source", "modbus"), ("sink", "file"), ("uplink", "hawkbit")} <= {
        (row["kind"], row["name"]) for row in rows
    }
    assert all(row["state"] == "ready" for row in rows)
    assert "modbus" in run("adapters", "list").output


def test_adapters_show_has_every_option(run: Run) -> None:
    [shown] = json.loads(run("adapters", "show", "modbus", "--json").output)
    names = {option["name"] for option in shown["options"]}
    assert {"host", "port", "devices[].registers[].name", "prefix"} <= names
    assert "devices[].unit" in run("adapters", "show", "modbus").output


def test_adapters_show_has_every_part_that_an_adapter_plays(run: Run) -> None:
    shown = json.loads(run("adapters", "show", "mqtt", "--json").output)
    assert [item["kind"] for item in shown] == ["source", "sink", "uplink"]
    assert "mqtt uplink: Updates: retained nudges" in run("adapters", "show", "mqtt").output


def test_init_with_an_uplink_has_what_it_needs(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    assert run("init", path, "--uplink", "mqtt", "--uplink", "hawkbit").exit_code == 0
    path.write_text(path.read_text().replace("  # name: gateway-7", "  name: gateway-7"))
    result = run("check", path)
    assert result.exit_code == 0, result.output
    assert "note: ota.root" in result.stderr


def test_adapters_show_of_an_unknown_name_is_an_error(run: Run) -> None:
    result = run("adapters", "show", "mobdus")
    assert result.exit_code == 2
    assert "did you mean 'modbus'?" in result.stderr


# status and its kin, without a daemon


@pytest.mark.parametrize("command", [("status",), ("reload",), ("model", "show"), ("model", "rollback")])
def test_commands_for_the_daemon_say_when_there_is_none(run: Run, command: tuple[str, ...], tmp_path: Path) -> None:
    result = run(*command, "--url", f"unix:{tmp_path}/none.sock")
    assert result.exit_code == 3
    assert "start one with `edge-agent run -c FILE`" in result.stderr


def test_bad_url_is_refused(run: Run) -> None:
    result = run("status", "--url", "nowhere")
    assert result.exit_code == 2
    assert "--url: got 'nowhere', expected an IP address and a port" in result.stderr


def test_command_group_is_a_click_group() -> None:
    from edge_agent.cli.app import cli

    assert isinstance(cli, click.Group)
