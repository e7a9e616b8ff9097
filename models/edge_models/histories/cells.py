"""Cells of any source (text, numbers, objects, arrays) as numbers, times and names of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_agent.recording.columns import CellError, numbers, numeric_times, times
from edge_models.histories.block import Rows, Times, Values
from edge_models.histories.header import LABEL, TIME, Header

Cells = Sequence[Any] | NDArray[Any]
Place = Callable[[int], str]
"""Where a row of a chunk stands, for messages: ``line 17``."""


def rows_of(
    where: str, header: Header, columns: Mapping[str, Cells], place: Place, decimal_comma: bool = False
) -> Rows:
    """A chunk of a wide table from its columns. :raises DataFileError: names place, column and cell."""

    def column(name: str, convert: Callable[[Cells], NDArray[Any]]) -> NDArray[Any]:
        try:
            return convert(columns[name])
        except CellError as error:
            raise DataFileError(f"{where}: {place(error.row)}, column {name!r}: {error}") from error

    def number(cells: Cells) -> Values:
        return as_numbers(cells, decimal_comma)

    return Rows(
        column(TIME, as_times) if header.timed else None,
        np.column_stack([column(name, number) for name in header.columns]),
        column(header.run, as_names) if header.run is not None else None,
        column(LABEL, number) if header.labelled else None,
    )


def as_numbers(cells: Cells, decimal_comma: bool = False) -> Values:
    """float64 with NaN for what is missing. :raises CellError: at the first cell that is no number."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        return cells.astype(np.float64)
    if len(cells) and isinstance(cells[0], str):
        return numbers([_text(cell) for cell in cells], decimal_comma)
    try:
        return np.array(cells, dtype=np.float64)
    except (TypeError, ValueError):
        return numbers([_text(cell) for cell in cells], decimal_comma)


def as_times(cells: Cells) -> Times:
    """Nanoseconds from times in any form. :raises CellError: at the first cell that is none."""
    array = cells if isinstance(cells, np.ndarray) else _numeric(cells)
    if array is not None and array.dtype.kind == "M":
        absent = np.flatnonzero(np.isnat(array))
        if len(absent):
            raise CellError(int(absent[0]), "got no value, expected a time")
        return array.astype("datetime64[ns]").astype(np.int64)
    if array is not None and array.dtype.kind in "iu":
        return numeric_times(array.astype(np.int64))
    if array is not None and array.dtype.kind == "f":
        return numeric_times(array.astype(np.float64))
    return times([_text(cell) for cell in cells])


def as_names(cells: Cells) -> NDArray[np.str_]:
    """Names of runs as text."""
    return np.char.strip(np.array([_text(cell) for cell in cells], np.str_))


def _numeric(cells: Sequence[Any]) -> NDArray[Any] | None:
    if all(isinstance(cell, int) for cell in cells):
        return np.array(cells, np.int64)
    if all(isinstance(cell, int | float) for cell in cells):
        return np.array(cells, np.float64)
    return None


def _text(cell: Any) -> str:
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, datetime):
        return cell.isoformat()
    return "" if cell is None else str(cell)
