"""Run the benchmarks: ``python benchmarks [CASE …]``; prints a table and writes ``benchmarks/results/*.json``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

MODULES = ("tick", "ingest", "process")


def main(chosen: list[str]) -> int:
    """Run the modules named (all by default); 1 when a goal was missed."""
    sys.path.insert(0, str(Path(__file__).parent))
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "value", "unit", "control", "ratio", "goal", "met")
    missed = 0
    for name in chosen or MODULES:
        for result in importlib.import_module(f"bench_{name}").run():
            result.write()
            missed += not result.met
            met = "[green]yes[/]" if result.met else "[red]no[/]"
            value, control = f"{result.value:.4g}", f"{result.control:.4g} ({result.control_is})"
            table.add_row(result.case, value, result.unit, control, f"{result.ratio:.2f}", result.goal, met)
    Console(width=180).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
