"""A model that kills the process in its self-test is left out after a few starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.bundle import universal_bundle
from edge_agent.daemon.first_start import MOST_ATTEMPTS, FirstStart
from edge_agent.errors import BundleError

DYING = """
import os, sys
from pathlib import Path
from edge_agent.bundle import universal_bundle
from edge_agent.daemon import first_start
first_start.self_test = lambda _bundle: os._exit(9)
first_start.FirstStart(Path(sys.argv[1])).test(universal_bundle())
"""


def test_a_model_that_kills_the_process_is_left_out_after_a_few_starts(tmp_path: Path) -> None:
    for _ in range(MOST_ATTEMPTS):
        assert subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], timeout=60).returncode == 9
    with pytest.raises(BundleError, match=f"the process ended {MOST_ATTEMPTS} times while this model was tried"):
        FirstStart(tmp_path).test(universal_bundle())
    (tmp_path / "self-testing").unlink()
    FirstStart(tmp_path).test(universal_bundle())


def test_what_has_passed_is_not_tested_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FirstStart(tmp_path).test(universal_bundle())
    assert not (tmp_path / "self-testing").exists()

    def again(_bundle: object) -> None:
        raise AssertionError("tested again")

    monkeypatch.setattr("edge_agent.daemon.first_start.self_test", again)
    FirstStart(tmp_path).test(universal_bundle())
