"""The systemd unit. That it works is shown by deploy/prove/nspawn.sh."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from edge_agent.cli.connection import DEFAULT_CONFIG
from edge_agent.config.agent import AgentOptions
from edge_agent.daemon import daemon

UNITS = ROOT / "deploy/systemd"
NAME = "edge-agent.service"
DROP_INS = sorted(UNITS.glob("*.conf"))
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def settings(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    return settings(UNITS / NAME)


def installed(folder: Path, drop_in: Path | None) -> Path:
    """The unit as systemd would find it, with a program that is there."""
    text = (UNITS / NAME).read_text().replace("/opt/edge-agent/bin/edge-agent", "/bin/true")
    path = folder / NAME
    path.write_text(text)
    if drop_in is not None:
        (folder / f"{NAME}.d").mkdir()
        shutil.copy(drop_in, folder / f"{NAME}.d")
    return path


@needs_systemd
@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.name if path else "alone")
def test_systemd_understands_every_line(tmp_path: Path, drop_in: Path | None) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed(tmp_path, drop_in)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert [line for line in done.stderr.splitlines() if "edge-agent" in line] == []


@needs_systemd
@pytest.mark.parametrize(
    ("drop_in", "limit"), [(None, 1.3), ("credentials.conf", 1.3), ("serial.conf", 1.8), ("internet.conf", 1.6)]
)
def test_exposure_stays_low(tmp_path: Path, drop_in: str | None, limit: float) -> None:
    # Offline, systemd-analyze does not look into drop-in folders: what they add comes last, as it would there.
    path = installed(tmp_path, None)
    if drop_in is not None:
        path.write_text(path.read_text().replace("[Install]", (UNITS / drop_in).read_text() + "[Install]"))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={round(limit * 10)}", path],
        capture_output=True,
        text=True,
        timeout=30,
        env={"SYSTEMD_PAGER": "cat", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_every_drop_in_is_named_in_the_unit() -> None:
    text = (UNITS / NAME).read_text()
    assert DROP_INS
    assert all(path.name in text for path in DROP_INS)


def test_systemd_waits_longer_than_the_daemon_takes(unit: dict[str, list[str]]) -> None:
    assert int(unit["TimeoutStopSec"][0]) > AgentOptions().stop_timeout


def test_watchdog_is_slower_than_the_answers(unit: dict[str, list[str]]) -> None:
    assert int(unit["WatchdogSec"][0]) >= 4 * daemon._STATUS_EVERY_S


def test_state_and_configuration_are_where_the_daemon_looks(unit: dict[str, list[str]]) -> None:
    assert Path("/var/lib", unit["StateDirectory"][0]) == AgentOptions().data_dir
    assert unit["ExecStart"] == [f"/opt/edge-agent/bin/edge-agent run -c {DEFAULT_CONFIG}"]
    assert unit["ExecStartPre"] == [f"/opt/edge-agent/bin/edge-agent check {DEFAULT_CONFIG}"]


def test_reload_is_the_signal_that_the_daemon_obeys(unit: dict[str, list[str]]) -> None:
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_proc_stays_readable_for_onnx_runtime(unit: dict[str, list[str]]) -> None:
    assert "ProcSubset" not in unit


def test_telemetry_of_onnx_runtime_is_off(unit: dict[str, list[str]]) -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in unit["Environment"][0].split()
