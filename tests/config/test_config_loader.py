from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import AgentConfig, diff_config, load_config, parse_config
from edge_agent.config.agent import LogFormat, LogLevel
from edge_agent.config.document import MAX_BYTES, read_document
from edge_agent.config.sample import sample_config
from edge_agent.errors import ConfigError

Parse = Callable[..., AgentConfig]
Problems = Callable[..., list[str]]
MODBUS = "{type: modbus, host: 10.0.0.5, devices: [{registers: [{name: level, address: 0}]}]}"


def test_options_are_read_with_their_units(parse: Parse) -> None:
    config = parse("agent: {stop_timeout: 3s}\ntick: {period: 250ms}\ndecision: {false_alarms: 1 per day}")
    assert config.agent.stop_timeout == 3
    assert config.tick.period == 0.25
    assert config.decision.false_alarms == pytest.approx(1 / 86400)


@pytest.mark.parametrize("level", list(LogLevel))
def test_every_log_level_is_taken(parse: Parse, level: LogLevel) -> None:
    assert parse(f"agent: {{log: {{level: {level}}}}}").agent.log.level is level


@pytest.mark.parametrize("form", list(LogFormat))
def test_every_log_format_is_taken(parse: Parse, form: LogFormat) -> None:
    assert parse(f"agent: {{log: {{format: {form}}}}}").agent.log.format is form


@pytest.mark.parametrize("text", ["100ms", "10m"])
def test_stop_timeout_takes_its_limits(parse: Parse, text: str) -> None:
    assert parse(f"agent: {{stop_timeout: {text}}}").agent.stop_timeout in (0.1, 600)


@pytest.mark.parametrize("text", ["99ms", "601s"])
def test_stop_timeout_refuses_one_beyond_its_limits(problems: Problems, text: str) -> None:
    [problem] = problems(f"agent: {{stop_timeout: {text}}}")
    assert problem.startswith(f"agent.yaml:1: agent.stop_timeout: got {text!r}, expected at ")


def test_config_cannot_be_changed(parse: Parse) -> None:
    config = parse("")
    with pytest.raises(AttributeError):
        config.agent = config.agent  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.sources["x"] = None  # type: ignore[index]


def test_relative_paths_start_at_the_file(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("a,b\n")
    config = parse("agent: {data_dir: state}\ngraph: {edges_file: edges.csv}\nmodel: {bundle: models/site}")
    assert config.agent.data_dir == tmp_path / "state"
    assert config.graph.edges_file == tmp_path / "edges.csv"
    assert config.model.path() == tmp_path / "models/site"


def test_relative_paths_inside_adapter_options_start_at_the_file(parse: Parse, tmp_path: Path) -> None:
    config = parse(
        "sources: {bus: {type: mqtt, host: a, tls: {ca_file: ca.pem}, subscriptions: [{topic: 'a/{b}'}]}}",
    )
    assert config.sources["bus"].tls.ca_file == tmp_path / "ca.pem"  # type: ignore[attr-defined]


def test_universal_bundle_is_not_a_path(parse: Parse) -> None:
    assert parse("model: {bundle: universal}").model.path() is None


def test_all_mistakes_are_reported_in_the_order_of_lines(problems: Problems) -> None:
    found = problems("tick: {period: 5}\nagnet: {}\ngraph: {window: 1}")
    assert [problem.split(": ")[0] for problem in found] == ["agent.yaml:1", "agent.yaml:2", "agent.yaml:3"]


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; `edge-agent init` writes a sample"):
        load_config(tmp_path / "none.yaml")


def test_file_that_is_not_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"agent:\n  name: \xff\n")
    with pytest.raises(ConfigError, match=r"agent.yaml:2: not UTF-8 text \(byte 0xff\)"):
        load_config(path)


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"\xef\xbb\xbfagent: {name: a}\n")
    assert load_config(path, {}, sources_required=False).agent.name == "a"


# YAML


def test_sensors_may_be_called_on_or_007(parse: Parse) -> None:
    config = parse("sensors: {on: {unit: mm}, 007: {unit: s}, no: {unit: m}, 1.50: {unit: x}}")
    assert list(config.sensors) == ["on", "007", "no", "1.50"]


@pytest.mark.parametrize("text", ["true", "on", "yes"])
def test_boolean_option_takes_the_usual_words(parse: Parse, text: str) -> None:
    assert parse(f"graph: {{learn: {text}}}").graph.learn is True


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("No", "No"),
        ("true", True),
        ("~", None),
        ("010", "010"),
        ("0o17", 15),
        ("0x1F", 31),
        ("0xZZ", "0xZZ"),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("12:30:45", "12:30:45"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("-7", -7),
        ("9" * 40, "9" * 40),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert read_document(f"x: {text}").value == {"x": value}


def test_leading_zeros_are_no_octal(parse: Parse) -> None:
    assert parse("graph: {window: 0100}").graph.window == 100


def test_anchors_and_merge_keys_work(parse: Parse) -> None:
    config = parse(
        "sensors:\n  a: &limits {min: 0, max: 5}\n  b: *limits\n  c: {<<: *limits, max: 9}\n"
        "  d: {<<: [*limits], min: -1}"
    )
    assert config.sensors["b"] == config.sensors["a"]
    assert (config.sensors["c"].min, config.sensors["c"].max) == (0, 9)
    assert (config.sensors["d"].min, config.sensors["d"].max) == (-1, 5)


def test_merge_of_something_else_is_an_error(problems: Problems) -> None:
    assert problems("sensors:\n  a: {<<: 5}") == [
        "agent.yaml:2: sensors.a: `<<` takes an anchored mapping, such as `<<: *defaults`"
    ]


def test_anchor_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    [problem] = read_document("\n".join(lines)).problems
    assert problem.message == "more than 200000 values once anchors are followed"


def test_anchor_that_contains_itself_is_refused() -> None:
    [problem] = read_document("a: &a [*a]").problems
    assert problem.message.startswith("nested deeper than 64 levels")


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    [problem] = read_document("[" * depth + "]" * depth).problems
    assert problem.message.startswith("nested deeper than 64 levels")


def test_large_file_is_refused() -> None:
    [problem] = read_document("#" * (MAX_BYTES + 1)).problems
    assert problem.message == "the file is larger than 4 MiB"


@pytest.mark.parametrize("text", ["\x00", "a: \x07", "? [a]\n: b", "{{a: b}: c}", "--- a\n--- b", "*x", "%FOO"])
def test_strange_documents_are_problems_and_never_exceptions(text: str) -> None:
    assert read_document(text).problems


# Secrets


def test_references_are_resolved(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from file\n")
    (tmp_path / "token").write_text("from systemd")
    text = (
        "agent: {name: 'gw-${env:SITE}'}\n"
        "telemetry: {endpoint: 'http://${env:HOST}:4318', headers: {A: '${file:secret}', B: '${credential:token}'}}"
    )
    config = parse(text, SITE="7", HOST="collector", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert config.agent.name == "gw-7"
    assert config.telemetry.endpoint == "http://collector:4318"
    assert {name: secret.reveal() for name, secret in config.telemetry.headers.items()} == {
        "A": "from file",
        "B": "from systemd",
    }


def test_numbers_may_come_by_reference(parse: Parse) -> None:
    assert parse("graph: {window: '${env:WINDOW}'}", WINDOW="64").graph.window == 64


def test_dollar_brace_can_be_written(parse: Parse) -> None:
    assert parse("agent: {name: '$${env:X} $5'}").agent.name == "${env:X} $5"


def test_what_a_reference_brings_is_not_resolved_again(parse: Parse) -> None:
    assert parse("agent: {name: '${env:A}'}", A="${env:B}").agent.name == "${env:B}"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("${env:}", "expected ${env:NAME}"),
        ("${credential:../x}", "expected ${env:NAME}"),
        ("${nonsense}", "expected ${env:NAME}"),
        ("${file:/nonexistent}", "but /nonexistent cannot be read: No such file or directory"),
    ],
)
def test_reference_that_leads_nowhere_is_one_problem(problems: Problems, reference: str, message: str) -> None:
    [problem] = problems(f"agent: {{name: '{reference}'}}")
    assert problem.startswith(f"agent.yaml:1: agent.name: got {reference}, {message}")


def test_large_and_binary_secret_files_are_refused(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 65_537)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    found = problems("agent: {name: '${file:large}'}\ngraph: {window: '${file:binary}'}")
    assert [problem.partition(", ")[2] for problem in found] == [
        "but large is larger than 65536 bytes",
        "but binary is not UTF-8 text",
    ]


def test_secrets_are_never_shown(parse: Parse, problems: Problems) -> None:
    config = parse("telemetry: {headers: {A: '${env:TOKEN}'}}", TOKEN="hunter2hunter2")
    assert "hunter2" not in repr(config)
    assert "hunter2" not in " ".join(problems("decision: {false_alarms: '${env:TOKEN}'}", TOKEN="hunter2hunter2"))


# Sensors


def test_sensors_keep_the_order_of_the_file(parse: Parse) -> None:
    assert list(parse("sensors: {LIT*: {unit: mm}, '*': {}, LIT101: {unit: m}}").sensors) == ["LIT*", "*", "LIT101"]


# Difference


def test_same_configuration_has_no_difference(parse: Parse) -> None:
    text = f"sources: {{a: {MODBUS}}}"
    assert not diff_config(parse(text), parse(text))


def test_difference_names_what_changed(parse: Parse) -> None:
    old = parse(f"sources: {{a: {MODBUS}, b: {MODBUS}}}\ntick: {{period: 1s}}")
    new = parse(f"sources: {{a: {MODBUS.replace('level', 'flow')}, c: {MODBUS}}}\ntick: {{period: 2s}}")
    found = diff_config(old, new)
    assert (found.sources.added, found.sources.removed, found.sources.changed) == (("c",), ("b",), ("a",))
    assert found.sections == ("tick",)
    assert not found.sinks


def test_changed_secret_is_a_difference(parse: Parse) -> None:
    text = "telemetry: {headers: {A: '${env:T}'}}"
    assert diff_config(parse(text, T="one"), parse(text, T="two")).sections == ("telemetry",)


# Sample


def test_sample_is_valid_and_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(sample_config(("mqtt", "coap"), ("file", "webhook")))
    config = load_config(path, dict(os.environ))
    assert [options.type for options in (*config.sources.values(), *config.sinks.values())] == [
        "mqtt",
        "coap",
        "file",
        "webhook",
    ]
    assert config.decision == type(config.decision)()


@given(st.text(alphabet="abs:{}[]&*-\n '\"#!<>|$0.1\t", max_size=80))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):  # anything else is a fault
        parse_config(text, Path("agent.yaml"), {}, sources_required=False)


def test_reading_a_configuration_imports_no_client_library(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(sample_config(("mqtt", "coap"), ("mqtt", "file", "webhook")))
    code = "import sys, pathlib; from edge_agent.config import load_config; load_config(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)", str(path)], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"onnxruntime", "aiohttp", "paho", "aiocoap", "pymodbus", "opentelemetry", "rich", "torch"}
