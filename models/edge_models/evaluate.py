"""How well a model finds labelled anomalies, beside simple baselines. Strictly causal; labels only judge.

For every test the detector starts afresh, is run through the plant's normal history (only its end for a site model,
which brings its constants), then through the test. Score of a tick: logarithm of the mean over sensors, causal mean of
five ticks; the same for the baselines. The model runs in ONNX Runtime by the same code as in the daemon.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.manifest import BundleKind
from edge_agent.bundle.store import read_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.errors import DataFileError
from edge_agent.inference.onnx import OnnxDetector
from edge_models.baselines import BASELINES
from edge_models.datasets import VUS_WINDOW, Entity, Labels, Values, load
from edge_models.metrics import Quality, quality
from edge_models.neighbours import choose_neighbours, partial_correlations
from edge_models.state import NEIGHBOURS
from edge_models.streaming import plant_score, score_rows

SITE_WARMUP_TICKS = 50
NEIGHBOUR_TICKS = 8_000
Score = Callable[[Entity], dict[str, NDArray[np.float64]]]
"""Plant scores [T] of all tests of an entity by name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One detector on one set: means over its tests."""

    set: str
    detector: str
    tests: int
    auroc: float
    auc_pr: float
    vus_pr: float


def evaluate(
    folder: Path,
    sets: Sequence[str],
    models: dict[str, Score],
    progress: Callable[[str, str], None] | None = None,
) -> list[Row]:
    """Measure ``models`` and the baselines on the named sets; ``progress`` is told set and plant."""
    rows = []
    for name in sets:
        entities = load(folder, name)
        found: dict[str, list[Quality]] = {}
        for entity in entities:
            if progress is not None:
                progress(name, entity.name)
            for detector, score in (models | _baselines()).items():
                found.setdefault(detector, []).extend(_judged(name, entity, score(entity)))
        rows += [_mean(name, detector, qualities) for detector, qualities in found.items() if qualities]
    return rows


def with_bundle(bundle: Bundle) -> Score:
    """Scores by a bundle, as it is."""

    def score(entity: Entity) -> dict[str, NDArray[np.float64]]:
        names = set(entity.sensors)
        neighbour = _trained_neighbours(bundle, entity) if names & {s.name for s in bundle.manifest.sensors} else None
        if neighbour is None:
            neighbour = entity_neighbours(entity)
        warmup = SITE_WARMUP_TICKS if bundle.manifest.kind is BundleKind.SITE else len(entity.normal)
        return run_tests(
            bundle, entity, neighbour, entity.normal[len(entity.normal) - min(warmup, len(entity.normal)) :]
        )

    return score


def with_site_training(time_budget_s: float, seed: int) -> Score:
    """Scores by a site model that is trained on each plant's normal part first."""
    from edge_models.site import SiteOptions, train_site

    def score(entity: Entity) -> dict[str, NDArray[np.float64]]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            data = place / "normal.parquet"
            _write_normal(data, entity)
            train_site(data, None, place / "bundle", SiteOptions(time_budget_s=time_budget_s, seed=seed))
            return with_bundle(read_bundle(place / "bundle"))(entity)

    return score


def entity_neighbours(entity: Entity) -> NDArray[np.int64]:
    """Neighbours from the normal part, declared edges first."""
    index = {name: place for place, name in enumerate(entity.sensors)}
    declared = [(index[a], index[b]) for a, b in entity.edges]
    return choose_neighbours(partial_correlations(entity.normal[-NEIGHBOUR_TICKS:]), NEIGHBOURS, declared)


def run_tests(
    bundle: Bundle, entity: Entity, neighbour: NDArray[np.int64], warmup: Values
) -> dict[str, NDArray[np.float64]]:
    """Plant scores of each test; every test goes on from the same state after ``warmup``."""
    detector = OnnxDetector(bundle)
    score_rows(detector, warmup, neighbour, entity.sensors)
    state = detector.export_state()
    found = {}
    for test in entity.tests:
        if not detector.import_state(state):
            raise DataFileError(f"{entity.name}: the state after the warm-up could not be taken up again")
        found[test.name] = plant_score(score_rows(detector, test.values, neighbour, entity.sensors))
    return found


def _trained_neighbours(bundle: Bundle, entity: Entity) -> NDArray[np.int64]:
    index = {name: place for place, name in enumerate(entity.sensors)}
    rows = np.full((len(index), bundle.manifest.neighbours), -1, np.int64)
    used = np.zeros(len(index), np.int64)
    for edge in bundle.manifest.edges:
        sensor, other = index.get(edge.sensor), index.get(edge.neighbour)
        if sensor is not None and other is not None and used[sensor] < rows.shape[1]:
            rows[sensor, used[sensor]] = other
            used[sensor] += 1
    return rows


def _baselines() -> dict[str, Score]:
    def scorer(compute: Callable[[Values, Values], Values]) -> Score:
        return lambda entity: {
            test.name: plant_score(compute(entity.normal, test.values).astype(np.float32)) for test in entity.tests
        }

    return {name: scorer(compute) for name, compute in BASELINES.items()}


def _judged(name: str, entity: Entity, scores: dict[str, NDArray[np.float64]]) -> list[Quality]:
    window = VUS_WINDOW.get(name, 20)
    measured = (quality(label, score, window) for label, score in _streams(entity, scores))
    return [found for found in measured if found is not None]


def _streams(entity: Entity, scores: dict[str, NDArray[np.float64]]) -> Iterator[tuple[Labels, NDArray[np.float64]]]:
    """What is judged as one: all tests together, or each one, after the faultless test where there is one."""
    if entity.pooled:
        yield np.concatenate([t.label for t in entity.tests]), np.concatenate([scores[t.name] for t in entity.tests])
        return
    calm = [test for test in entity.tests if not test.label.any()]
    for test in entity.tests:
        if test.label.any():
            parts = [*calm, test]
            yield np.concatenate([t.label for t in parts]), np.concatenate([scores[t.name] for t in parts])


def _mean(name: str, detector: str, found: Sequence[Quality]) -> Row:
    return Row(
        name,
        detector,
        len(found),
        float(np.mean([q.auroc for q in found])),
        float(np.mean([q.auc_pr for q in found])),
        float(np.mean([q.vus_pr for q in found])),
    )


def _write_normal(path: Path, entity: Entity) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: entity.normal[:, place] for place, name in enumerate(entity.sensors)})
    pq.write_table(table, path)
