"""From the cells of a column to numbers and times, with the place of what does not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S

_WITH_UNIT = re.compile(r"(?P<name>.*\S)\s*\[(?P<unit>[^\[\]]*[^\W\d_%°][^\[\]]*|%|°)\]")
_MISSING = frozenset(("", "nan", "null", "none", "na", "n/a", "-"))
_WORDS = {"true": 1.0, "false": 0.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000))
"""From which number on a time counts nano-, micro- or milliseconds: as seconds 1e11 would be the year 5138."""
_EXACT_NS = 2**53


def split_unit(name: str) -> tuple[str, str | None]:
    """``TI101 [degC]`` is ``("TI101", "degC")``; ``x[3]`` is a name, not a unit of 3."""
    match = _WITH_UNIT.fullmatch(name)
    return (name, None) if match is None else (match["name"], match["unit"].strip())


class CellError(ValueError):
    """The cell at ``row`` (from 0) of a column does not fit."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def numbers(cells: Sequence[str], decimal_comma: bool = False) -> NDArray[np.float64]:
    """Numbers from text; NaN for what stands for a missing value. :raises CellError: at the first other text."""
    try:
        return np.array(cells, dtype=np.str_).astype(np.float64)
    except ValueError:
        return np.array([_number(row, cell, decimal_comma) for row, cell in enumerate(cells)], dtype=np.float64)


def _number(row: int, cell: str, decimal_comma: bool) -> float:
    text = cell.strip()
    try:
        return float(text)
    except ValueError:
        pass
    word = text.lower()
    if word in _MISSING:
        return np.nan
    if word in _WORDS:
        return _WORDS[word]
    if decimal_comma and text.count(",") == 1:
        return _number(row, text.replace(",", "."), False)
    raise CellError(row, f"got {cell!r}, expected a number")


def times(cells: Sequence[str]) -> NDArray[np.int64]:
    """Nanoseconds from text: ISO 8601 (UTC when no zone is given), or numbers as in :func:`numeric_times`.

    :raises CellError: at the first cell that is neither, or empty.
    """
    try:
        return numeric_times(np.array([int(cell) for cell in cells], dtype=np.int64))
    except (ValueError, OverflowError):
        counted = bool(cells) and _is_number(cells[0])
    if counted:
        return numeric_times(np.array([_seconds(row, cell) for row, cell in enumerate(cells)], dtype=np.float64))
    return np.array([_iso(row, cell) for row, cell in enumerate(cells)], dtype=np.int64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _seconds(row: int, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise CellError(row, f"got {cell!r}, expected a number as in the rows before") from None


def numeric_times(values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Nanoseconds from seconds (from the start or since 1970), or from the unit that the size of the numbers tells."""
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd):
        raise CellError(int(odd[0]), f"got {values[odd[0]]}, expected a time")
    largest = float(np.abs(values).max(initial=0))
    unit = next((ns for least, ns in _UNITS if largest >= least), NS_PER_S)
    if largest * unit > 9.2e18:
        raise CellError(int(np.abs(values).argmax()), f"got {largest:g}, expected a time between 1678 and 2262")
    if values.dtype.kind == "i":
        return np.asarray(values * unit, dtype=np.int64)
    whole = np.floor(values)
    # Whole and fraction apart, because a double holds today's nanoseconds only to 256 ns.
    fraction = np.round((values - whole) * unit).astype(np.int64)
    time_ns = np.asarray(whole.astype(np.int64) * unit + fraction, dtype=np.int64)
    if largest * unit < _EXACT_NS:
        return time_ns
    return (time_ns + 500) // 1_000 * 1_000  # digits below a microsecond are noise of the representation


def _iso(row: int, cell: str) -> int:
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise CellError(
            row, f"got {cell!r}, expected a time such as 2026-11-20T10:42:07Z, or seconds as a number"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
