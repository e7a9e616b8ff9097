"""Labelled recordings in one form, whatever form they were published in.

A data folder holds ``asd/``, ``smd/``, ``tep/``, ``skab/``, ``batadal/``, ``lbnl_ahu/`` and ``wsn_suthaharan/`` as
Parquet; its place is given by ``--data`` or the environment variable ``EDGE_AGENT_DATA``. SWaT and WADI are read from
the files that iTrust gives out on request (:mod:`edge_models.itrust`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError

Values = NDArray[np.float64]
Labels = NDArray[np.int8]
NOT_FEATURES = ("timestamp", "run", "label")
DATA_VARIABLE = "EDGE_AGENT_DATA"
VUS_WINDOW = {"smd": 100}
"""Window of VUS-PR in ticks where it is not 20: smd has a tick of a minute and long events."""


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """One labelled stretch: ``values`` [T, N], ``label`` [T] of 0 and 1."""

    name: str
    values: Values
    label: Labels


@dataclass(frozen=True, slots=True)
class Entity:
    """One plant: normal history, and tests that each start afresh after that history.

    ``pooled`` tests are measured as one stream, because single ones hold one class only. ``edges``: declared pairs.
    """

    name: str
    sensors: tuple[str, ...]
    normal: Values
    tests: tuple[LabelledRun, ...]
    pooled: bool = False
    edges: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A recording as read: ``values`` [T, N], and ``run`` [T] and ``label`` [T] where the file has them."""

    sensors: tuple[str, ...]
    values: Values
    run: NDArray[np.str_] | None = field(default=None)
    label: Labels | None = field(default=None)

    def of_run(self, name: str) -> Table:
        """The rows of one run."""
        assert self.run is not None
        where = self.run == name
        return Table(self.sensors, self.values[where], None, None if self.label is None else self.label[where])

    @property
    def runs(self) -> tuple[str, ...]:
        return () if self.run is None else tuple(dict.fromkeys(self.run.tolist()))


def data_folder(given: Path | None) -> Path:
    """The folder of recordings. :class:`~edge_agent.errors.DataFileError` when none is given or it is not there."""
    place = given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if place is None:
        raise DataFileError(f"no folder of recordings: give --data DIR or set {DATA_VARIABLE}")
    if not place.is_dir():
        raise DataFileError(f"{place}: no such folder, expected the recordings (asd/, smd/, tep/, ...)")
    return place


def read_table(path: Path, sensors: Sequence[str] | None = None) -> Table:
    """Read a Parquet recording; ``sensors`` restricts and orders the columns."""
    import pyarrow.parquet as pq

    if not path.exists():
        raise DataFileError(f"{path}: no such file")
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read as Parquet: {error}") from error
    chosen = tuple(sensors) if sensors is not None else _numeric(table)
    missing = [name for name in chosen if name not in table.column_names]
    if missing:
        raise DataFileError(f"{path}: no column {missing[0]!r}, expected the columns of the training part")
    values = np.stack([table[name].to_numpy().astype(np.float64) for name in chosen], 1)
    run = np.array(table["run"].to_pylist(), np.str_) if "run" in table.column_names else None
    label = table["label"].to_numpy().astype(np.int8) if "label" in table.column_names else None
    return Table(chosen, values, run, label)


def data_digest(paths: Sequence[Path]) -> str:
    """sha256 over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def load(folder: Path, name: str) -> list[Entity]:
    """All plants of one set. :class:`~edge_agent.errors.DataFileError` names an unknown set or a missing file."""
    if name not in _LOADERS:
        raise DataFileError(f"unknown set {name!r}, expected one of {', '.join(_LOADERS)}")
    found = _LOADERS[name](folder)
    if not found:
        raise DataFileError(f"{folder}: no recordings of {name!r}")
    return found


def training_files(folder: Path) -> list[Path]:
    """The normal parts that the universal model is trained on."""
    sets = ("wsn_suthaharan", "tep", "asd", "smd")
    files = [path for name in sets for path in sorted((folder / name).glob("**/train.parquet"))]
    if not files:
        raise DataFileError(f"{folder}: no train.parquet below {', '.join(sets)}")
    return files


def _numeric(table: Any) -> tuple[str, ...]:
    import pyarrow as pa

    def numeric(kind: Any) -> bool:
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))

    return tuple(f.name for f in table.schema if f.name not in NOT_FEATURES and numeric(f.type))


def _folders(name: str) -> Callable[[Path], list[Entity]]:
    def read(folder: Path) -> list[Entity]:
        return list(_entities(folder / name))

    return read


def _entities(folder: Path) -> Iterator[Entity]:
    for place in sorted(path.parent for path in folder.glob("*/train.parquet")):
        train = read_table(place / "train.parquet")
        test = read_table(place / "test.parquet", train.sensors)
        assert test.label is not None
        yield Entity(place.name, train.sensors, train.values, (LabelledRun(place.name, test.values, test.label),))


def _tep(folder: Path) -> list[Entity]:
    """Each fault together with the faultless run, so that both classes are there; each run starts afresh."""
    train = read_table(folder / "tep" / "train.parquet")
    test = read_table(folder / "tep" / "test.parquet", train.sensors)
    tests = []
    for run in test.runs:
        part = test.of_run(run)
        assert part.label is not None
        tests.append(LabelledRun(run, part.values, part.label))
    return [Entity("tep", train.sensors, train.values, tuple(tests))]


def _skab(folder: Path) -> list[Entity]:
    train = read_table(folder / "skab" / "train.parquet")
    test = read_table(folder / "skab" / "test.parquet", train.sensors)
    found = []
    for run in test.runs:
        part = test.of_run(run)
        assert part.label is not None
        found.append(Entity(run, train.sensors, train.of_run(run).values, (LabelledRun(run, part.values, part.label),)))
    return found


def _batadal(folder: Path) -> list[Entity]:
    train = read_table(folder / "batadal" / "train.parquet")
    dev = read_table(folder / "batadal" / "dev.parquet", train.sensors)
    assert dev.label is not None
    normal = np.round(train.values, 2)  # the labelled part is rounded, the normal part is not
    edges = _edges(folder / "batadal" / "edges.csv", train.sensors)
    return [Entity("batadal", train.sensors, normal, (LabelledRun("dev", dev.values, dev.label),), edges=edges)]


def _lbnl(folder: Path) -> list[Entity]:
    place = folder / "lbnl_ahu" / "mzvav_sim"
    train = read_table(place / "train.parquet")
    test = read_table(place / "test.parquet", train.sensors)
    tests = []
    for run in test.runs:
        part = test.of_run(run)
        assert part.label is not None
        tests.append(LabelledRun(run, part.values, part.label))
    return [Entity("mzvav_sim", train.sensors, train.values, tuple(tests), pooled=True)]


def _edges(path: Path, sensors: Sequence[str]) -> tuple[tuple[str, str], ...]:
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    known = set(sensors)
    return tuple((a, b) for a, b, *_ in lines if a in known and b in known)


def _itrust(name: str) -> Callable[[Path], list[Entity]]:
    def read(folder: Path) -> list[Entity]:
        from edge_models import itrust  # imports this module

        return [(itrust.load_swat if name == "swat" else itrust.load_wadi)(folder / name)]

    return read


_LOADERS: dict[str, Callable[[Path], list[Entity]]] = {
    "wsn_suthaharan": _folders("wsn_suthaharan"),
    "tep": _tep,
    "asd": _folders("asd"),
    "smd": _folders("smd"),
    "skab": _skab,
    "batadal": _batadal,
    "lbnl": _lbnl,
    "swat": _itrust("swat"),
    "wadi": _itrust("wadi"),
}
SETS = tuple(_LOADERS)
"""Names for :func:`load`."""
OPEN_SETS = tuple(name for name in SETS if name not in ("swat", "wadi"))
"""Those that anybody may download."""
