"""Which sensors are neighbours: partial correlations of the history, declared edges first."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError

_RIDGE = 0.05
_WEAKEST = 1e-3


def partial_correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute partial correlations [N, N] of the columns of ``values`` [T, N]; NaN counts as the column's mean.

    From the ridge precision matrix, which stays well-conditioned for collinear and constant columns; the latter are
    related to nothing.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0.0).sum(0) / count
    centred = np.where(known, values - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(0) / count)
    alive = deviation > 1e-6 * np.abs(mean) + 1e-9
    z = np.clip(np.where(alive, centred / np.where(alive, deviation, 1.0), 0.0), -5.0, 5.0)
    precision = np.linalg.inv(z.T @ z / max(len(z), 1) + _RIDGE * np.eye(values.shape[1]))
    scale = np.sqrt(np.diag(precision))
    strength = np.abs(precision / np.outer(scale, scale))
    np.fill_diagonal(strength, 0.0)
    strength[~alive] = 0.0
    strength[:, ~alive] = 0.0
    return np.asarray(strength, np.float64)


def choose_neighbours(
    strength: NDArray[np.float64], most: int, declared: Iterable[tuple[int, int]] = ()
) -> NDArray[np.int64]:
    """Indices [N, ``most``] of the neighbours of each sensor, best first, -1 where there are fewer.

    ``declared`` pairs come first (both ways), the rest by ``strength`` [N, N].
    """
    count = len(strength)
    rows: list[list[int]] = [[] for _ in range(count)]
    for a, b in declared:
        if a != b:
            rows[a].append(b)
            rows[b].append(a)
    result = np.full((count, most), -1, np.int64)
    for sensor, row in enumerate(rows):
        ranked = np.argsort(-strength[sensor], kind="stable")[: most + 1]
        row += [int(other) for other in ranked if strength[sensor, other] > _WEAKEST and other != sensor]
        chosen = list(dict.fromkeys(row))[:most]
        result[sensor, : len(chosen)] = chosen
    return result


def named_edges(
    names: Sequence[str], neighbour: NDArray[np.int64], strength: NDArray[np.float64]
) -> list[tuple[str, str, float]]:
    """``(sensor, neighbour, weight)`` for every place that is taken, in order; the weight falls along a row.

    The gateway sorts by weight, so that declared edges of little strength keep their place in front.
    """
    found = []
    for sensor, row in enumerate(neighbour):
        taken = [int(other) for other in row if other >= 0]
        weights = [max(float(strength[sensor, other]), 1e-3) for other in taken]
        for place in range(len(weights) - 2, -1, -1):
            weights[place] = max(weights[place], weights[place + 1] + 1e-4)
        found += [(names[sensor], names[other], round(w, 4)) for other, w in zip(taken, weights, strict=True)]
    return found


def read_edges(path: Path, sensors: Sequence[str]) -> list[tuple[int, int]]:
    """Declared edges from a CSV file with two columns of sensor names (more columns are ignored, a header is allowed).

    :raises DataFileError: the file cannot be read, or none of its edges names two sensors of the data.
    """
    index = {name: place for place, name in enumerate(sensors)}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as an edge list: {error}") from error
    found = [(index[row[0]], index[row[1]]) for row in rows if len(row) >= 2 and row[0] in index and row[1] in index]
    if not found:
        raise DataFileError(f"{path}: no row names two sensors of the data, expected lines such as 'LIT101,FIT101'")
    return found
