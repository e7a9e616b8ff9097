"""Carrying per-sensor rows over when sensors appear, leave or change place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

D = TypeVar("D", bound=np.generic)


def source_rows(before: Sequence[str], after: Sequence[str]) -> NDArray[np.int64]:
    """For each sensor of ``after`` its row in ``before``, -1 for a new one."""
    row = {name: index for index, name in enumerate(before)}
    return np.fromiter((row.get(name, -1) for name in after), np.int64, len(after))


def carry_rows(array: NDArray[D], rows: NDArray[np.int64], init: Any) -> NDArray[D]:
    """``array`` in the order given by ``rows`` (from :func:`source_rows`); rows of new sensors hold ``init``."""
    result = np.full((len(rows), *array.shape[1:]), init, array.dtype)
    known = rows >= 0
    result[known] = array[rows[known]]
    return result


def fit_neighbours(neighbour: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The ``width`` best neighbours of each sensor; -1 where there are fewer or the index names no sensor."""
    sensors = len(neighbour)
    result = np.full((sensors, width), -1, np.int64)
    shared = min(width, neighbour.shape[1])
    given = neighbour[:, :shared]
    result[:, :shared] = np.where((given >= 0) & (given < sensors), given, -1)
    return result


SENSORS, DETECTOR = "sensors", "detector"
State = dict[str, NDArray[Any]]


def pack_state(detector: str, sensors: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> State:
    """What ``export_state`` gives: who it belongs to, the sensors, and a copy of one array per state."""
    names = {DETECTOR: np.array([detector]), SENSORS: np.array(sensors, dtype=np.str_)}
    return names | {name: array.copy() for name, array in columns.items()}


def unpack_state(state: State, detector: str, form: Mapping[str, NDArray[Any]]) -> tuple[str, ...] | None:
    """The sensors of a packed state; None when it is another detector's or damaged.

    ``form`` holds an array of no rows for each expected state. The caller then takes the columns out of ``state``.
    """
    if state.keys() != {DETECTOR, SENSORS, *form} or state[DETECTOR].tolist() != [detector]:
        return None
    sensors = tuple(str(name) for name in state[SENSORS].ravel())
    if len(set(sensors)) != len(sensors):
        return None
    for name, example in form.items():
        column = state[name]
        if column.dtype != example.dtype or column.shape != (len(sensors), *example.shape[1:]):
            return None
        if not np.isfinite(column).all():
            return None
    return sensors
