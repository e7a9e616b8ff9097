from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.config import AgentConfig, parse_config
from edge_agent.errors import ConfigError


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., AgentConfig]:
    """Parse text as if it stood in ``agent.yaml`` of an otherwise empty folder; sources may be missing."""

    def parsed(text: str, **env: str) -> AgentConfig:
        return parse_config(text, tmp_path / "agent.yaml", env, sources_required=False)

    return parsed


@pytest.fixture
def problems(parse: Callable[..., AgentConfig], tmp_path: Path) -> Callable[..., list[str]]:
    """The mistakes in a text, without the folder in front."""

    def found(text: str, **env: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            parse(text, **env)
        return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return found
