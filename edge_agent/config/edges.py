"""Edge lists given by the user."""

from __future__ import annotations

import csv
from pathlib import Path

from edge_agent.errors import DataFileError

_MAX_EDGES = 1_000_000
_HEADER = frozenset(
    ["source", "target", "from", "to", "a", "b", "sensor", "neighbour", "neighbor", "src", "dst", "node1", "node2"]
)


def read_edges(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of sensor names from the first two columns of a CSV file; a header line is recognised and skipped.

    :raises DataFileError: the file cannot be read, or a line has fewer than two names.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                (number, row) for number, row in enumerate(csv.reader(file), 1) if row and not row[0].startswith("#")
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as a CSV file of edges: {error}") from error
    edges: list[tuple[str, str]] = []
    for number, row in rows:
        names = [cell.strip() for cell in row[:2]]
        if len(names) < 2 or not all(names):
            raise DataFileError(f"{path}:{number}: got {row!r}, expected two sensor names separated by a comma")
        if number == rows[0][0] and {name.lower() for name in names} <= _HEADER:
            continue
        edges.append((names[0], names[1]))
    if len(edges) > _MAX_EDGES:
        raise DataFileError(f"{path}: {len(edges)} edges, expected at most {_MAX_EDGES}")
    return tuple(edges)
