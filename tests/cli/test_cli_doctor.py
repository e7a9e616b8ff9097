from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edge_agent.cli import diagnosis
from edge_agent.cli.diagnosis import Finding, Level, diagnose

Run = Callable[..., Result]


def found_in(findings: list[Finding], what: str) -> Finding:
    return next(finding for finding in findings if finding.what == what)


def test_doctor_looks_at_everything(run: Run) -> None:
    findings = json.loads(run("doctor", "--json").output)
    assert {finding["what"] for finding in findings} >= {
        "Python",
        "ONNX Runtime",
        "clock",
        "time server",
        "battery clock",
        "open files",
        "memory",
        "data folder",
        "extra mqtt",
        "model",
    }


def test_whatever_is_not_ok_comes_with_advice() -> None:
    for finding in diagnose():
        assert finding.level is Level.OK or finding.advice, finding


def test_text_has_one_line_for_each_finding(run: Run) -> None:
    lines = run("doctor").output.splitlines()
    assert sum(line.startswith(("ok ", "warn ", "fail ")) for line in lines) >= 9


def test_data_folder_is_written_to(config: Path) -> None:
    (config.parent / "data").mkdir()
    finding = found_in(diagnose(config), "data folder")
    assert finding.level is Level.OK
    assert list((config.parent / "data").iterdir()) == []


def test_data_folder_that_will_be_made_is_fine(config: Path) -> None:
    finding = found_in(diagnose(config), "data folder")
    assert finding.level is Level.OK
    assert finding.found.endswith("does not exist yet; it is made at the first start")


def test_data_folder_that_cannot_be_made_is_a_warning(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.os, "access", lambda *_: False)  # root, who may run this, may write anywhere
    finding = found_in(diagnose(config), "data folder")
    assert finding.level is Level.WARN
    assert finding.advice.startswith("install -d")


def test_full_disk_is_a_warning(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (config.parent / "data").mkdir()
    monkeypatch.setattr(diagnosis, "MIN_FREE_BYTES", 2**62)
    assert found_in(diagnose(config), "disk space").level is Level.WARN


def test_mistake_in_the_configuration_fails(run: Run, config: Path) -> None:
    config.write_text("tick: {period: 5}\n")
    result = run("doctor", "-c", config, "--json")
    finding = next(item for item in json.loads(result.output) if item["what"] == "configuration")
    assert (result.exit_code, finding["level"]) == (1, "fail")
    assert finding["found"].endswith("(and 1 more)")


def test_taken_port_is_named(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config.write_text(config.read_text() + f"api: {{listen: '127.0.0.1:{server.getsockname()[1]}'}}\n")
        assert found_in(diagnose(config), "API port").found.endswith("Address already in use")


def test_broken_model_fails(config: Path) -> None:
    (config.parent / "bundle").mkdir()
    config.write_text(config.read_text() + "model: {bundle: bundle}\n")
    assert found_in(diagnose(config), "model").level is Level.FAIL


def test_root_of_updates_is_looked_at(config: Path) -> None:
    config.write_text(config.read_text() + "ota: {repository: 'https://u.example.com', root: root.json, gateway: g}\n")
    assert found_in(diagnose(config), "updates").level is Level.FAIL
    root = '{"signed": {"_type": "root", "version": 3, "expires": "2031-01-01T00:00:00Z"}, "signatures": []}'
    (config.parent / "root.json").write_text(root)
    finding = found_in(diagnose(config), "updates")
    assert finding.level is Level.OK
    assert finding.found.endswith("is version 3 of the root, until 2031-01-01T00:00:00Z")
