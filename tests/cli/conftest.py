from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.app import cli

Run = Callable[..., Result]


@pytest.fixture
def run() -> Iterator[Run]:
    """Run a command in this process; what it did to logging is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def invoked(*args: str | Path, **more: object) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="edge-agent", **more)  # type: ignore[arg-type]

    yield invoked
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that is valid, with nothing at the other end."""
    path = tmp_path / "agent.yaml"
    path.write_text(
        "agent: {data_dir: data}\n"
        "sources:\n"
        "  plc: {type: modbus, host: 127.0.0.1, port: 9, devices: [{registers: [{name: level, address: 0}]}]}\n"
        "sinks:\n"
        "  log: {type: file, path: '-'}\n"
    )
    return path
