"""Scores kept between runs, so that measuring again is quick. The key is the content: data, code, model and seed."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge_models.evaluation.streams import Stream, Streams, Subject
from edge_models.evaluation.suites import Case

_PARTS = ("sensor", "p_value", "alarm")


class Cache:
    """A folder of ``.npz`` files; None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def streams(self, subject: Subject, case: Case, seed: int) -> Streams:
        """Those of an earlier run on the same, or what ``subject`` says now."""
        if self._folder is None:
            return subject.run(case, seed)
        path = self._folder / f"{_key(subject, case, seed)}.npz"
        if path.exists():
            return _read(path)
        streams = subject.run(case, seed)
        _write(path, streams)
        return streams


@cache
def sources_digest(*packages: str) -> str:
    """sha256 over all Python sources of packages (or single modules)."""
    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin)
        for path in sorted(place.parent.rglob("*.py")) if place.name == "__init__.py" else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _key(subject: Subject, case: Case, seed: int) -> str:
    digest = hashlib.sha256(repr((subject.key, seed, case.set, case.tick_s, case.entity.edges)).encode())
    for values in (case.entity.normal, *(test.values for test in case.entity.tests)):
        digest.update(repr(values.shape).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(repr((case.entity.sensors, [test.name for test in case.entity.tests])).encode())
    return digest.hexdigest()


def _write(path: Path, streams: Streams) -> None:
    arrays: dict[str, Any] = {"calm": streams.calm}
    for name, stream in streams.tests.items():
        arrays[f"plant/{name}"] = stream.plant
        arrays |= {f"{part}/{name}": value for part in _PARTS if (value := getattr(stream, part)) is not None}
    temporary = path.with_suffix(f".{id(streams)}.part.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)


def _read(path: Path) -> Streams:
    with np.load(path) as arrays:
        names = [name.removeprefix("plant/") for name in arrays if name.startswith("plant/")]
        tests = {
            name: Stream(arrays[f"plant/{name}"], *(arrays.get(f"{part}/{name}") for part in _PARTS)) for name in names
        }
        return Streams(arrays["calm"], tests)
