"""What the Makefile and the checks promise."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ("run", "test", "check", "bench", "docs", "venv")


def planned(target: str, folder: Path) -> str:
    """What `make` would do for ``target`` in a checkout without .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).write_text((ROOT / name).read_text())
    command = ["make", "--dry-run", "--no-print-directory", "-C", str(folder), target]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", TARGETS)
def test_help_names_every_target(target: str) -> None:
    shown = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in shown


def test_run_installs_no_torch(tmp_path: Path) -> None:
    plan = planned("run", tmp_path)
    assert "'.[demo]'" in plan
    assert "edge-agent demo" in plan
    assert "torch" not in plan


def test_test_installs_torch_first(tmp_path: Path) -> None:
    plan = planned("test", tmp_path)
    assert plan.index("install --quiet 'torch==") < plan.index("'.[all,dev]'") < plan.index(".ci/run-tests")


def test_torch_is_of_one_version() -> None:
    [version] = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert f"TORCH := {version}\n" in (ROOT / "Makefile").read_text()


def test_check_checks_everything(tmp_path: Path) -> None:
    plan = planned("check", tmp_path)
    for what in ("ruff format --check", "ruff check", "mypy", "lint-imports", "docs --check"):
        assert what in plan


@pytest.mark.parametrize("script", ["run", "run-tests", "system-packages"])
def test_scripts_are_executable_bash(script: str) -> None:
    path = ROOT / ".ci" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()


def test_missing_packages_are_named_to_who_cannot_install_them(tmp_path: Path) -> None:
    """As an ordinary user without sudo, on a machine that has nothing."""
    commands = {"id": "echo 1000", "sudo": "exit 1", "python3": "exit 1"}
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "env", "test"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    script = (
        (ROOT / ".ci" / "system-packages").read_text().replace('PATH="$PATH:/usr/sbin:/sbin"', f'PATH="{tmp_path}"')
    )
    (tmp_path / "script").write_text(script)
    done = subprocess.run(["/bin/bash", str(tmp_path / "script"), "test"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends python3-venv gcc" in done.stderr
    assert "mosquitto mosquitto-clients libcoap3-bin mbpoll socat prometheus" in done.stderr
