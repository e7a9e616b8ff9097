"""Names of columns: which are sensors, and their units. ``timestamp``, ``run`` and ``label`` never are."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import DataFileError
from edge_agent.recording.columns import split_unit
from edge_agent.recording.table import NOT_SENSORS

TIME = "timestamp"
LABEL = "label"


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a wide table. ``columns`` are the sensors' names as they stand there, ``sensors`` without unit."""

    columns: tuple[str, ...]
    sensors: tuple[str, ...]
    units: tuple[str | None, ...]
    run: str | None
    timed: bool
    labelled: bool


def read_header(
    where: str, names: Iterable[str], run_column: str | None = None, units: Mapping[str, str] | None = None
) -> Header:
    """Sort the columns of ``where``; ``units`` by column name adds to those in brackets, as in ``TI101 [degC]``.

    :raises DataFileError: a column without a name, two of the same name, no ``run_column``, or no sensor.
    """
    names = [name.strip() for name in names]
    if run_column is not None and run_column not in names:
        raise DataFileError(f"{where}: no column {run_column!r} for the runs, found {', '.join(names)}")
    runs = run_column or "run"
    columns = tuple(name for name in names if name not in (*NOT_SENSORS, runs))
    split = [split_unit(name) for name in columns]
    sensors = tuple(name for name, _ in split)
    others = [name for name in names if name in (*NOT_SENSORS, runs)]
    _check_names(where, [*others, *sensors], names)
    if not sensors:
        raise DataFileError(f"{where}: no column of readings beside {', '.join(names) or 'nothing'}")
    given = units or {}
    found = tuple(given.get(column, unit) for column, (_, unit) in zip(columns, split, strict=True))
    return Header(
        columns,
        sensors,
        found,
        runs if runs in names else None,
        TIME in names and runs != TIME,
        LABEL in names and runs != LABEL,
    )


def read_units(path: Path) -> dict[str, str]:
    """Units by sensor from a CSV file of two columns, sensor and unit; a header is allowed.

    :raises DataFileError: the file cannot be read, or a row has no two columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as a list of units: {error}") from error
    for line, row in enumerate(rows, 1):
        if len(row) < 2:
            raise DataFileError(f"{path}: line {line}: got {row!r}, expected sensor and unit, as in 'TI101,degC'")
    return {row[0].strip(): row[1].strip() for row in rows}


def _check_names(where: str, known: list[str], names: list[str]) -> None:
    if "" in names:
        raise DataFileError(f"{where}: column {names.index('') + 1} has no name; give it one or leave it out")
    seen: set[str] = set()
    for name in known:
        if name in seen:
            raise DataFileError(f"{where}: two columns are called {name!r}; rename or remove one")
        seen.add(name)
