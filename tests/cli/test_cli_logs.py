from __future__ import annotations

import io
import json
import logging

import pytest

from edge_agent.cli.logs import JsonFormatter, TextFormatter, configure_logging, redact
from edge_agent.cli.output import print_table
from edge_agent.options import Secret


def formatted(message: str, *args: object, **extra: object) -> dict[str, object]:
    record = logging.getLogger("edge_agent.test").makeRecord(
        "edge_agent.test", logging.WARNING, __file__, 1, message, args, None, extra=extra
    )
    record.created = 1_700_000_000.5
    found: dict[str, object] = json.loads(JsonFormatter().format(record))
    return found


def test_line_has_time_level_logger_and_message() -> None:
    assert formatted("lost %d", 3) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "warning",
        "logger": "edge_agent.test",
        "message": "lost 3",
    }


def test_extras_are_fields() -> None:
    assert formatted("x", sensor="LIT101", count=2)["sensor"] == "LIT101"


def test_what_is_not_json_is_written_as_text() -> None:
    assert formatted("x", thing={1})["thing"] == "{1}"


def test_line_stays_one_line() -> None:
    record = logging.makeLogRecord({"msg": "two\nlines", "name": "x"})
    assert "\n" not in JsonFormatter().format(record)


def test_text_of_others_forges_no_entry_and_moves_no_cursor() -> None:
    note = "pump\x1b[2J\r\n10:42:07 ERROR   edge_agent: all is lost\u202e"
    lines = TextFormatter().format(logging.makeLogRecord({"msg": "note: %s", "args": (note,), "name": "x"})).split("\n")
    assert lines[0].endswith("note: pump\\x1b[2J\\r")
    assert lines[1:] == ["    10:42:07 ERROR   edge_agent: all is lost\\u202e"]


def test_cell_of_a_table_stays_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "note"), [("A", "two\nlines\x1b]0;title\x07"), ("B", "Pumpe läuft")])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "A   two lines\\x1b]0;title\\x07",
        "B   Pumpe läuft",
    ]


def test_exception_is_a_field() -> None:
    try:
        raise ValueError("password=hunter2")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "x", "exc_info": (type(error), error, error.__traceback__)})
    entry = json.loads(JsonFormatter().format(record))
    assert "Traceback" in entry["error"]
    assert "hunter2" not in entry["error"]


@pytest.mark.parametrize(
    "text",
    [
        "mqtt://user:hunter2@broker:1883",
        "Authorization: Bearer hunter2hunter2",
        "Basic aHVudGVyMjpodW50ZXIy hunter2".replace(" hunter2", ""),
        "password=hunter2, host=x",
        "{'token': 'hunter2'}",
        "api_key: hunter2",
        str(Secret("hunter2")),
    ],
)
@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_secrets_are_taken_out(text: str, formatter: logging.Formatter) -> None:
    line = formatter.format(logging.makeLogRecord({"msg": "%s", "args": (text,), "name": "x"}))
    assert "hunter2" not in line
    assert "aHVudGVyMj" not in line
    assert "***" in line


@pytest.mark.parametrize("text", ["http://127.0.0.1:8470/metrics", "token file made", "10:42:07 basic check"])
def test_harmless_text_stays(text: str) -> None:
    assert redact(text) == text


def test_configuring_twice_does_not_double_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    try:
        configure_logging("info", "json")
        configure_logging("info", "json")
        logging.getLogger("edge_agent.test").info("once")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert out.getvalue().count("once") == 1
