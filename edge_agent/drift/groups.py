"""Which of some sensors hang together by the plant's edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest_group(which: NDArray[np.bool_], neighbour: NDArray[np.int64]) -> int:
    """Size of the largest set of sensors in ``which`` [N] that are connected by edges among themselves.

    ``neighbour`` [N, K]: indices, -1 where there are fewer; an edge counts in both directions.
    """
    left = set(np.flatnonzero(which).tolist())
    near: dict[int, set[int]] = {sensor: set() for sensor in left}
    for sensor in left:
        for other in left.intersection(neighbour[sensor].tolist()):
            near[sensor].add(other)
            near[other].add(sensor)
    largest = 0
    while left:
        group = {left.pop()}
        fresh = set(group)
        while fresh:
            fresh = set().union(*(near[sensor] for sensor in fresh)) - group
            group |= fresh
        left -= group
        largest = max(largest, len(group))
    return largest
