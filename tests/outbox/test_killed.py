"""kill -9 at random moments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_what_was_durable_is_there_after_every_kill(memory: Path, kills: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), str(memory), str(kills), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("events") > 20 * kills
    assert found.pop("most_again") <= 8  # what was on its way when it was killed
    assert found == {"kills": kills, "lost": 0, "disorder": 0, "damaged": 0}
