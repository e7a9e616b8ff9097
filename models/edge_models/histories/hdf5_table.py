"""HDF5: one dataset of two dimensions (rows by sensors), or one dataset of one dimension for each sensor.

Beside the readings, in the same group, there may be ``timestamp``, ``run`` and ``label`` of one dimension. Names of the
columns of a two-dimensional dataset are its attribute ``columns``, or a dataset ``columns`` beside it. Units are the
attribute ``unit`` (of each dataset, or one for each column).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import DataFileError
from edge_agent.recording.table import NOT_SENSORS
from edge_models.histories.block import Rows
from edge_models.histories.cells import Cells, rows_of
from edge_models.histories.header import read_header

NAMES = "columns"


class Hdf5Table:
    """A ``.h5`` or ``.hdf5`` file; ``select`` names the group or two-dimensional dataset (default: the only one)."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, select: str | None, run_column: str | None, units: Mapping[str, str]) -> None:
        self.where = str(path) if select is None else f"{path}: {select}"
        self._path = path
        with _opened(path) as file:
            chosen = _chosen(self.where, file, select)
            group = chosen.parent if hasattr(chosen, "shape") else chosen
            matrix = chosen if hasattr(chosen, "shape") else _matrix(self.where, group)
            self._group = group.name
            self._matrix = None if matrix is None else matrix.name
            names = _vectors(group) if matrix is None else [*_matrix_names(self.where, matrix), *_beside(group)]
            described = _units(group, matrix, names)
            self._length = _length(self.where, group, names, matrix)
        self._names = names
        self._header = read_header(self.where, names, run_column, described | dict(units))
        self.sensors, self.units = self._header.sensors, self._header.units

    def rows(self, most: int) -> Iterator[Rows]:
        with _opened(self._path) as file:
            group = file[self._group]
            for first in range(0, self._length, most):
                part = slice(first, min(first + most, self._length))
                columns = self._columns(file, group, part)
                yield rows_of(self.where, self._header, columns, lambda row, at=first: f"row {at + row + 1}")  # type: ignore[misc]

    def _columns(self, file: Any, group: Any, part: slice) -> dict[str, Cells]:
        if self._matrix is None:
            return {name: group[name][part] for name in self._names}
        values = file[self._matrix][part]
        own = dict(zip(self._names, values.T, strict=False))
        return own | {name: group[name][part] for name in self._names[values.shape[1] :]}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise DataFileError(f"{path}: not an HDF5 file, or damaged: {str(error).splitlines()[0]}") from error


def _chosen(where: str, file: Any, select: str | None) -> Any:
    if select is None:
        groups = [file, *(item for item in file.values() if not hasattr(item, "shape"))]
        holding = [group for group in groups if _matrix(where, group) is not None or _vectors(group)]
        if len(holding) != 1:
            found = ", ".join(_content(file)) or "nothing"
            raise DataFileError(f"{where}: expected readings in one group, found {found}; name one with --select")
        return holding[0]
    if select not in file:
        found = ", ".join(_content(file)) or "nothing"
        raise DataFileError(f"{where}: no such group or dataset, found {found}")
    return file[select]


def _content(file: Any) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return found[:20]


def _matrix(where: str, group: Any) -> Any:
    found = [item for item in group.values() if len(getattr(item, "shape", ())) == 2]
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise DataFileError(f"{where}: several datasets of two dimensions: {names}; name one with --select")
    return found[0] if found else None


def _vectors(group: Any) -> list[str]:
    """Names of the one-dimensional datasets of a group; none when it holds only what is no sensor."""
    names = [name for name, item in group.items() if len(getattr(item, "shape", ())) == 1]
    return names if set(names) - {*NOT_SENSORS, NAMES} else []


def _beside(group: Any) -> list[str]:
    return [name for name in NOT_SENSORS if name in group]


def _matrix_names(where: str, matrix: Any) -> list[str]:
    width = matrix.shape[1]
    given = matrix.attrs.get(NAMES)
    if given is None and NAMES in matrix.parent:
        given = matrix.parent[NAMES][:]
    if given is None:
        leaf = matrix.name.rpartition("/")[2]
        return [f"{leaf}.{column}" for column in range(width)]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in given]
    if len(names) != width:
        raise DataFileError(f"{where}: got {len(names)} names for {width} columns, expected one for each")
    return names


def _units(group: Any, matrix: Any, names: list[str]) -> dict[str, str]:
    if matrix is not None:
        return {name: str(unit) for name, unit in zip(names, matrix.attrs.get("unit", ()), strict=False)}
    return {name: str(group[name].attrs["unit"]) for name in names if "unit" in group[name].attrs}


def _length(where: str, group: Any, names: list[str], matrix: Any) -> int:
    lengths = {name: int(group[name].shape[0]) for name in names if name in group}
    if matrix is not None:
        lengths[matrix.name] = int(matrix.shape[0])
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:5])
        raise DataFileError(f"{where}: datasets differ in length ({shown}), expected one row a tick in all of them")
    if any(kind == "V" for kind in (np.dtype(group[name].dtype).kind for name in names if name in group)):
        raise DataFileError(f"{where}: datasets of compound type are not read; save one dataset for each sensor")
    return next(iter(lengths.values()))
