"""Each folder of ``cases``: a ``config.yaml``, and in ``error.txt`` every message it must give, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load_config
from edge_agent.errors import ConfigError

CASES = sorted(path.parent for path in Path(__file__).parent.glob("cases/*/config.yaml"))
ENV = {"MQTT_PASSWORD": "correct horse"}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_every_mistake_of_the_case_is_reported(case: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(case / "config.yaml", ENV)
    messages = [problem.replace(f"{case}/", "") for problem in caught.value.problems]
    assert messages == (case / "error.txt").read_text().splitlines()
