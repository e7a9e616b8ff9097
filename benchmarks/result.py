"""One measured case: a value, beside a control measured in the same run, against a goal."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """``control`` is the same quantity of the named control; ``ratio`` = value / control; ``goal`` as in the docs."""

    case: str
    value: float
    unit: str
    control: float
    control_is: str
    goal: str
    met: bool

    @property
    def ratio(self) -> float:
        """How many times the control."""
        return self.value / self.control if self.control else float("nan")

    def write(self) -> dict[str, Any]:
        """Save as ``benchmarks/results/<case>.json`` and give back what was written."""
        RESULTS.mkdir(exist_ok=True)
        body = {**asdict(self), "ratio": round(self.ratio, 3), "machine": machine(), "commit": commit()}
        body["value"], body["control"] = round(self.value, 4), round(self.control, 4)
        (RESULTS / f"{self.case}.json").write_text(json.dumps(body, indent=1) + "\n")
        return body


def machine() -> str:
    """What this was measured on."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return f"{platform.machine()} {model}, Python {platform.python_version()}".replace("  ", " ")


def commit() -> str:
    """The commit measured, with a + when the tree was changed."""
    found = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
