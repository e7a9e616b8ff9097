"""Models and bundles that are hostile or broken, each with where it is stopped and what is said of it.

Everything is made here, from the small real bundle of the tests; nothing is downloaded. ``GATE`` cases never reach ONNX
Runtime. ``PROBE`` cases are well-formed: what is wrong with them shows when they run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bundle_factory import GraphBuilder, golden_inputs, make_files, make_manifest, make_model, make_parts, run_golden

from edge_agent.bundle import Limits, write_npz
from edge_agent.bundle.store import seal

GATE, PROBE = "gate", "probe"
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """``make`` writes the candidate into a folder and gives its path; ``message``: part of what must be said."""

    name: str
    stage: str
    message: str
    make: Callable[[Path], Path]


def sealed(**replaced: bytes) -> Files:
    """A bundle with some files replaced, whose manifest has the right digests all the same: only content is wrong."""
    files = make_files() | {name.replace("__", "."): raw for name, raw in replaced.items()}
    manifest = json.loads(files["manifest.json"])
    for name, raw in files.items():
        if name != "manifest.json":
            manifest["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    return files | {"manifest.json": json.dumps(manifest).encode()}


def folder(files: Files) -> Callable[[Path], Path]:
    """Written as a folder."""

    def make(place: Path) -> Path:
        path = place / "bundle"
        path.mkdir()
        for name, raw in files.items():
            (path / name).write_bytes(raw)
        return path

    return make


def model_case(name: str, message: str, model: Callable[[], bytes]) -> Case:
    """A model that the gate refuses, in a bundle that is right otherwise."""
    return Case(name, GATE, message, lambda place: folder(sealed(model__onnx=model()))(place))


def built(change: Callable[[GraphBuilder], None]) -> Callable[[], bytes]:
    return lambda: make_model(change_builder=change)


def altered(change: Callable[[Any], None]) -> Callable[[], bytes]:
    return lambda: make_model(change_model=change)


def probe_case(
    name: str,
    message: str,
    change: Callable[[GraphBuilder], None],
    change_model: Callable[[Any], None] | None = None,
    limits: Limits | None = None,
    own_golden: bool = False,
) -> Case:
    """A model that the gate lets through; ``own_golden``: its golden ticks are what it computes itself."""

    def make(place: Path) -> Path:
        model = make_model(change, change_model)
        arrays = {}
        if own_golden:
            arrays = {f"out__{key}": value for key, value in run_golden(model, golden_inputs()).items()}
        manifest = make_manifest(limits=limits or Limits(p99_ms=500.0, rss_mb=100.0))
        return folder(seal(manifest, make_parts(model=model, **arrays)))(place)

    return Case(name, PROBE, message, make)


def manifest_case(name: str, message: str, change: Callable[[str], str]) -> Case:
    """A manifest that is no good."""

    def make(place: Path) -> Path:
        files = make_files()
        return folder(files | {"manifest.json": change(files["manifest.json"].decode()).encode()})(place)

    return Case(name, GATE, message, make)


def golden_case(name: str, message: str, change: Callable[[dict[str, np.ndarray]], None]) -> Case:
    """Golden ticks that are no good."""

    def make(place: Path) -> Path:
        inputs = golden_inputs()
        outputs = run_golden(make_model(), inputs)
        arrays = {f"in.{key}": value for key, value in inputs.items()}
        arrays |= {f"out.{key}": value for key, value in outputs.items()}
        change(arrays)
        return folder(sealed(golden__npz=write_npz(arrays)))(place)

    return Case(name, GATE, message, make)


def all_cases() -> list[Case]:
    """The whole corpus; names are unique."""
    import corpus_bundles
    import corpus_models
    import corpus_runs

    return [*corpus_models.CASES, *corpus_bundles.CASES, *corpus_runs.CASES]
