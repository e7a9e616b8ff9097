"""SWaT and WADI as iTrust (Singapore University of Technology and Design) gives them out, converted to CSV.

The files have grown oddities over the years, and all are met here: title rows above the header, blanks around names
and labels (`` Timestamp``, ``A ttack``), WADI columns named by the path on the historian's machine, wholly empty WADI
columns, and an attack label column with a misspelt name in which 1 means *no* attack. The files may not be passed on:
ask iTrust for them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_models.datasets import Entity, LabelledRun, Labels, Values

SWAT_NORMAL = ("SWaT_Dataset_Normal_v1", "SWaT_Dataset_Normal_v0")
SWAT_ATTACK = ("SWaT_Dataset_Attack_v0",)
WADI_NORMAL = ("WADI_14days_new", "WADI_14days")
WADI_ATTACK = ("WADI_attackdataLABLE", "WADI_attackdata")
_TITLE_ROWS = 8
_SWAT_LABEL = re.compile(r"normal\s*/\s*attack", re.IGNORECASE)
_WADI_LABEL = re.compile(r"attack\s+lab(le|el)", re.IGNORECASE)
_NOT_SENSORS = re.compile(r"(row|date|time|timestamp)", re.IGNORECASE)
_NOT_A_VALUE = frozenset(("", "nan", "null", "bad input", "no data", "#n/a"))


@dataclass(frozen=True, slots=True)
class ItrustTable:
    """One file as read: sensor names without paths and blanks, ``values`` [T, N], ``label`` [T] if there is one."""

    sensors: tuple[str, ...]
    values: Values
    label: Labels | None


def load_swat(folder: Path) -> Entity:
    """SWaT: ``SWaT_Dataset_Normal_v1.csv`` and ``SWaT_Dataset_Attack_v0.csv`` in ``folder``."""
    return _entity("swat", read_itrust(_find(folder, SWAT_NORMAL)), read_itrust(_find(folder, SWAT_ATTACK)), folder)


def load_wadi(folder: Path) -> Entity:
    """WADI A1 or A2: ``WADI_14days(_new).csv`` and ``WADI_attackdata(LABLE).csv`` in ``folder``."""
    return _entity("wadi", read_itrust(_find(folder, WADI_NORMAL)), read_itrust(_find(folder, WADI_ATTACK)), folder)


def read_itrust(path: Path) -> ItrustTable:
    """Read one file of either set; the header is found by its timestamp or row column.

    :raises DataFileError: no header, no rows, or a cell that is neither a number nor a known mark for nothing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = csv.reader(file)
            names = _header(path, rows)
            return _table(path, names, rows)
    except (OSError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as CSV: {error}") from error


def _find(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        for path in sorted(folder.glob(f"**/{name}*.csv")):
            return path
    raise DataFileError(
        f"{folder}: no {' or '.join(name + '.csv' for name in names)}; convert the .xlsx file to CSV first"
    )


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    for _, row in zip(range(_TITLE_ROWS), rows, strict=False):
        names = [_plain(name) for name in row]
        if any(_NOT_SENSORS.fullmatch(name) for name in names):
            return names
    raise DataFileError(
        f"{path}: no header within {_TITLE_ROWS} rows, expected a row with Timestamp or Row, Date, Time"
    )


def _plain(name: str) -> str:
    r"""``\\WIN-25J4RO10SBF\LOG_DATA\SUTD_WADI\LOG_DATA\1_AIT_001_PV`` is ``1_AIT_001_PV``."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].strip() if "\\" in name else name.strip()


def _table(path: Path, names: list[str], rows: Iterator[list[str]]) -> ItrustTable:
    label_at = next((i for i, n in enumerate(names) if _SWAT_LABEL.search(n) or _WADI_LABEL.search(n)), None)
    sensor_at = [i for i, n in enumerate(names) if n and i != label_at and not _NOT_SENSORS.fullmatch(n)]
    values: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for line, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(names):
            row = list(chain(row, [""] * (len(names) - len(row))))
        values.append(np.array([_number(path, line, names[i], row[i]) for i in sensor_at]))
        if label_at is not None:
            labels.append(_label(path, line, names[label_at], row[label_at]))
    if not values:
        raise DataFileError(f"{path}: no rows below the header")
    label = np.array(labels, np.int8) if label_at is not None else None
    return ItrustTable(tuple(names[i] for i in sensor_at), np.stack(values), label)


def _number(path: Path, line: int, name: str, cell: str) -> float:
    text = cell.strip()
    if text.lower() in _NOT_A_VALUE:
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise DataFileError(f"{path}, row {line}, column {name!r}: got {cell!r}, expected a number") from error


def _label(path: Path, line: int, name: str, cell: str) -> int:
    """SWaT says Normal or Attack (also ``A ttack``); WADI says 1 for no attack and -1 for attack."""
    text = "".join(cell.split()).lower()
    if _SWAT_LABEL.search(name):
        if text in ("normal", "attack"):
            return int(text == "attack")
    elif text in ("1", "1.0", "-1", "-1.0"):
        return int(text.startswith("-"))
    raise DataFileError(f"{path}, row {line}, column {name!r}: got {cell!r}, expected Normal or Attack, or 1 or -1")


def _entity(name: str, normal: ItrustTable, attack: ItrustTable, folder: Path) -> Entity:
    if attack.label is None:
        raise DataFileError(f"{folder}: the attack file of {name} has no label column")
    place = {sensor: at for at, sensor in enumerate(attack.sensors)}
    shared = [at for at, sensor in enumerate(normal.sensors) if sensor in place]
    filled = [at for at in shared if np.isfinite(normal.values[:, at]).any()]
    if not filled:
        raise DataFileError(f"{folder}: the two files of {name} have no sensor in common")
    sensors = tuple(normal.sensors[at] for at in filled)
    test = attack.values[:, [place[sensor] for sensor in sensors]]
    return Entity(name, sensors, normal.values[:, filled], (LabelledRun(name, test, attack.label),))
