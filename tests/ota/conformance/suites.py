"""Suites of tests that others have written for TUF clients, brought into ``.cache/`` and run there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[2] / ".cache"
_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "20")
_FREEZEGUN = "freezegun==1.5.5"  # as python-tuf 7.0.1 pins it for its tests


@dataclass(frozen=True, slots=True)
class Results:
    """Names of tests. Those that are expected to fail, and do, are in neither."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]


def conformance() -> tuple[Path, Path]:
    """The checkout of tuf-conformance that ``EDGE_AGENT_TUF_CONFORMANCE`` names, and a Python that may run it.

    That Python is of an environment of its own, because the suite is bound to an older version of tuf. No registry is
    asked for the suite: it is not published in one, and whoever took its name there would be run here.
    """
    given = os.environ.get("EDGE_AGENT_TUF_CONFORMANCE")
    if not given:
        pytest.skip("EDGE_AGENT_TUF_CONFORMANCE names no checkout of tuf-conformance")
    checkout = Path(given).absolute()
    home = _CACHE / "tuf-conformance"
    wanted, stamp = (checkout / "pyproject.toml").read_text(), home / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        _must("tuf-conformance", [sys.executable, "-m", "venv", "--clear", str(home)])
        _must(str(checkout), [str(home / "bin" / "python"), *_PIP, "install", str(checkout)])
        stamp.write_text(wanted)
    return checkout, home / "bin" / "python"


def run_conformance(checkout: Path, python: Path, report: Path) -> Results:
    """Let the suite try our client; what it may fail in is in ``client.py.xfails``, which the suite reads."""
    # The client's shebang finds our Python by the path.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # Without these it would take the settings of the project that the client is in.
    command = [str(python), "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(checkout)]
    arguments = ["-p", "no:cacheprovider", "tuf_conformance", "--entrypoint", str(_HERE / "client.py")]
    return _run([*command, *arguments], checkout, environment, report)


def python_tuf() -> Path:
    """The source distribution of the python-tuf that is installed; its tests are in it, and not in the wheel."""
    name = f"tuf-{version('tuf')}"
    home = _CACHE / "python-tuf"
    if not (home / name / "tests").is_dir():
        download = ["download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(home)]
        _must("tuf", [sys.executable, *_PIP, *download, f"tuf=={version('tuf')}"])
        _must(_FREEZEGUN, [sys.executable, *_PIP, "install", "--target", str(home / "packages"), _FREEZEGUN])
        with tarfile.open(home / f"{name}.tar.gz") as archive:
            tests = [member for member in archive if member.name.startswith(f"{name}/tests")]
            archive.extractall(home, tests, filter="data")
    return home / name


def run_python_tuf(folder: Path, report: Path) -> Results:
    """Run python-tuf's tests of its client, with ours in the client's place (:mod:`ours_as_python_tuf`)."""
    environment = {**os.environ, "PYTHONPATH": f"{folder.parent / 'packages'}:{_HERE}:{folder}"}
    modules = sorted(str(path) for path in folder.glob("tests/test_updater_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(folder)]
    plugins = ["-p", "ours_as_python_tuf", "-p", "no:cacheprovider"]
    return _run([*command, *plugins, *modules], folder, environment, report)


def _must(what: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        pytest.skip(f"{what} cannot be installed: {said}")


def _run(command: list[str], folder: Path, environment: dict[str, str], report: Path) -> Results:
    subprocess.run([*command, "--junitxml", str(report)], cwd=folder, env=environment, timeout=600)
    passed: list[str] = []
    failed: list[str] = []
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = {child.tag for child in case} & {"failure", "error", "skipped"}
        if outcomes != {"skipped"}:
            (failed if outcomes else passed).append(str(case.get("name")))
    return Results(tuple(passed), tuple(failed))
