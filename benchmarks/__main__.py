"""Run the benchmarks: ``python -m benchmarks [NAME …]``; prints a table and writes ``benchmarks/results/*.json``.

Each module runs in a process of its own, so that libraries loaded by one do not count for another.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

MODULES = (
    "process",
    "swap",
    "tick",
    "ingest",
    "delivery",
    "latency",
    "rules",
    "detection",
    "patterns",
    "drift",
    "creep",
    "forgetting",
    "training",
    "hostile",
    "trust",
    "canary",
    "fleet",
)
HERE = Path(__file__).parent


def main(chosen: list[str]) -> int:
    """Run the modules named (all by default); 1 when a goal was missed or a module failed."""
    unknown = [name for name in chosen if name not in MODULES]
    if unknown:
        print(f"got {unknown[0]!r}, expected some of {', '.join(MODULES)}", file=sys.stderr)
        return 2
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "value", "unit", "control", "ratio", "goal", "met")
    missed = 0
    for name in chosen or MODULES:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command edge-agent does
        command = [sys.executable, str(HERE / "__main__.py"), "--one", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        missed += done.returncode != 0
        for line in done.stdout.splitlines():
            result = json.loads(line)
            missed += not result["met"]
            met = "[green]yes[/]" if result["met"] else "[red]no[/]"
            value, control = f"{result['value']:.4g}", f"{result['control']:.4g} ({result['control_is']})"
            table.add_row(result["case"], value, result["unit"], control, f"{result['ratio']:.2f}", result["goal"], met)
    Console(width=180).print(table)
    return 1 if missed else 0


def one(name: str) -> int:
    """Run one module in this process; a line of JSON for each result."""
    sys.path.insert(0, str(HERE))
    for result in importlib.import_module(f"bench_{name}").run():
        print(json.dumps(result.write()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(one(sys.argv[2]) if sys.argv[1:2] == ["--one"] else main(sys.argv[1:]))
