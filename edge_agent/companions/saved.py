"""Reading back what was saved. A file may be damaged, from another version, or made to do harm: nothing is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 1e30  # larger numbers are in no saved state, and their squares would overflow


def numbers_in(
    state: Mapping[str, NDArray[Any]], name: str, shape: tuple[int | None, ...], least: float = -_MOST
) -> NDArray[np.float64]:
    """The array ``name``: finite numbers of at least ``least``; None in ``shape`` stands for any length.

    :raises KeyError: there is none. :raises ValueError: it is of another kind, shape or range.
    """
    array = np.asarray(state[name])
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "fiu":
        raise ValueError(f"saved {name!r}: got {array.dtype} of shape {array.shape}, expected numbers of shape {shape}")
    found = array.astype(np.float64)
    if not (np.isfinite(found).all() and (found >= least).all() and (found <= _MOST).all()):
        raise ValueError(f"saved {name!r}: expected finite numbers of at least {least:g}")
    return found


def names_in(state: Mapping[str, NDArray[Any]], name: str, most: int) -> tuple[str, ...]:
    """The array ``name``: at least one and at most ``most`` different names.

    :raises KeyError: there is none. :raises ValueError: it is something else.
    """
    array = np.asarray(state[name])
    if array.ndim != 1 or array.dtype.kind != "U" or not 0 < len(array) <= most:
        raise ValueError(f"saved {name!r}: got {array.dtype} of shape {array.shape}, expected 1 to {most} names")
    names = tuple(str(one) for one in array)
    if len(set(names)) != len(names):
        raise ValueError(f"saved {name!r}: a name comes twice")
    return names
