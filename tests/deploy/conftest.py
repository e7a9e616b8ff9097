"""The files that put the agent on a gateway, read once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """One stage of a Dockerfile: where it comes from, and its instructions with those it inherits."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.instructions if name == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]


def read_dockerfile(path: Path) -> dict[str, Stage]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    current = Stage("")
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            inherited = stages[base].instructions if base in stages else []
            current = stages[name] = Stage(base, list(inherited))
        else:
            current.instructions.append((instruction, rest.strip()))
    return stages


@pytest.fixture(scope="session")
def stages() -> dict[str, Stage]:
    return read_dockerfile(ROOT / "Dockerfile")


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="session")
def healthcheck(stages: dict[str, Stage]) -> list[str]:
    command = stages["agent"].last("HEALTHCHECK").partition("CMD ")[2]
    parsed: list[str] = json.loads(command)
    return parsed
