"""The how-to in docs/adapters.md is true: its example is built, installed, found, checked and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "adapters.md"
SHOWN = (
    "pyproject.toml",
    "acme_edge/__init__.py",
    "acme_edge/options.py",
    "acme_edge/source.py",
    "acme_edge/sample.yaml",
)


def python(*args: object, path: Path | None = None) -> str:
    """Run Python with ``path`` first on its module path; returns its standard output."""
    env = os.environ | ({"PYTHONPATH": str(path)} if path is not None else {})
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed into it from a wheel."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, HERE / "acme")
    [wheel] = wheels.glob("*.whl")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def test_installed_adapter_is_found(installed: Path) -> None:
    rows = json.loads(python("-m", "edge_agent", "adapters", "list", "--json", path=installed))
    [acme] = [row for row in rows if row["name"] == "acme"]
    assert (acme["kind"], acme["state"]) == ("source", "ready")


def test_its_options_are_documented(installed: Path) -> None:
    shown = python("-m", "edge_agent", "adapters", "show", "acme", path=installed)
    assert "Name or address of the scale." in shown


def test_its_options_are_checked(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text((HERE / "acme/acme_edge/sample.yaml").read_text())
    assert "ok, 1 source" in python("-m", "edge_agent", "check", config, path=installed)


def test_it_is_in_the_schema(installed: Path) -> None:
    assert "source.acme" in json.loads(python("-m", "edge_agent", "schema", path=installed))["$defs"]


def test_it_conforms(installed: Path) -> None:
    output = python("-W", "error", HERE / "acme_conformance.py", path=installed)
    assert "('hopper1',), (21.5,)" in output


@pytest.mark.parametrize("name", SHOWN)
def test_docs_show_the_very_files(name: str) -> None:
    kind = {".py": "python", ".toml": "toml", ".yaml": "yaml"}[Path(name).suffix]
    text = (HERE / "acme" / name).read_text()
    assert f"```{kind}\n{text}```" in DOCS.read_text(), f"docs/adapters.md does not show {name} as it is"
