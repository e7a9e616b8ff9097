"""Score streams of our own detector, by the very code that the daemon runs (:mod:`edge_agent.pipeline.offline`)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.store import read_bundle, universal_bundle
from edge_agent.cli.offline_model import load_model
from edge_agent.clock import NS_PER_S
from edge_agent.decision.options import DecisionOptions
from edge_agent.errors import DataFileError
from edge_agent.pipeline.engine import PipelineOptions
from edge_agent.pipeline.offline import Detection, detect
from edge_agent.recording import Recording
from edge_models.datasets import Entity
from edge_models.evaluation.baselines import HELD_OUT
from edge_models.evaluation.cache import sources_digest
from edge_models.evaluation.streams import Stream, Streams
from edge_models.evaluation.suites import Case

Floats = NDArray[np.float64]
_RUNTIME = "edge_agent"
_TRAINING = tuple(
    f"edge_models.{part}" for part in ("histories", "hybrid", "network", "online", "recipes", "site", "training")
)


@dataclass(frozen=True, slots=True)
class Agent:
    """A bundle (None: the universal model) in the daemon's pipeline, warmed up on the normal part.

    ``warmup_ticks``: only so many of the last normal ticks, as of a gateway that has just been installed.
    """

    name: str
    bundle: Path | None = None
    warmup_ticks: int | None = None
    random: bool = False

    @property
    def key(self) -> str:
        bundle = universal_bundle() if self.bundle is None else read_bundle(self.bundle)
        return f"agent/{bundle.sha256}/{self.warmup_ticks}/{sources_digest(_RUNTIME)}"

    def run(self, case: Case, seed: int) -> Streams:
        """The daemon's scores, p-values and alarms. What it could not score is as calm as the calmest normal tick."""
        return _streams(case.entity, self.detect(case))

    def detect(self, case: Case) -> Detection:
        """All that the daemon says, tests one after the other, each from what was learned in the normal part."""
        entity, model = case.entity, load_model(self.bundle)
        decision = DecisionOptions().model_copy(update={"false_alarms": case.false_alarms_per_s})
        normal = entity.normal if self.warmup_ticks is None else entity.normal[-self.warmup_ticks :]
        return detect(
            _recording(entity, [test.values for test in entity.tests], case.tick_s),
            model.detector,
            warmup=_recording(entity, [normal], case.tick_s),
            calibration=model.calibration,
            trained_edges=model.edges,
            options=PipelineOptions(decision=decision, edges=entity.edges),
        )


@dataclass(frozen=True, slots=True)
class TrainedAgent:
    """A recipe of ``edge-agent train``, trained on each plant's normal part first, in the daemon's pipeline."""

    recipe: str
    time_budget_s: float = 60.0
    random: bool = True

    @property
    def name(self) -> str:
        return f"trained: {self.recipe}"

    @property
    def key(self) -> str:
        return f"trained/{self.recipe}/{self.time_budget_s}/{sources_digest(_RUNTIME, *_TRAINING)}"

    def run(self, case: Case, seed: int) -> Streams:
        """Train, then as :class:`Agent`."""
        with tempfile.TemporaryDirectory() as folder:
            return self.trained(case, seed, Path(folder)).run(case, seed)

    def trained(self, case: Case, seed: int, folder: Path) -> Agent:
        """Train on the normal part; the bundle is written into ``folder``."""
        from edge_models.recipes.command import train
        from edge_models.site import SiteOptions

        options = SiteOptions(tick_s=case.tick_s, time_budget_s=self.time_budget_s, seed=seed)
        history, bundle = folder / "normal.parquet", folder / "bundle"
        _write_normal(history, case.entity)
        train(history, _write_edges(folder / "edges.csv", case.entity), bundle, self.recipe, options)
        return Agent(self.name, bundle)


def _recording(entity: Entity, parts: list[Floats], tick_s: float) -> Recording:
    """Several stretches as the runs of one recording in memory."""
    run = np.repeat([f"{number}" for number in range(len(parts))], [len(part) for part in parts])
    values = np.concatenate(parts)
    if not len(values):
        raise DataFileError(f"{entity.name}: no rows, expected readings")
    time_ns = np.arange(len(values), dtype=np.int64) * round(tick_s * NS_PER_S)
    return Recording(Path(entity.name), entity.sensors, values, time_ns, None, run, None, ())


def _streams(entity: Entity, found: Detection) -> Streams:
    assert found.warmup is not None
    history = found.warmup.score
    known = history[np.isfinite(history)]
    calm = history[int(len(history) * (1.0 - HELD_OUT)) :]
    calm = calm[np.isfinite(calm)]
    floor = float(known.min()) if len(known) else 0.0
    plant = np.where(np.isfinite(found.score), found.score, floor)
    tests, at = {}, 0
    for test in entity.tests:
        rows = slice(at, at + len(test.label))
        tests[test.name] = Stream(plant[rows], found.blame[rows], found.p_value[rows], found.alarm[rows])
        at = rows.stop
    return Streams(calm, tests)


def _write_normal(path: Path, entity: Entity) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: entity.normal[:, place] for place, name in enumerate(entity.sensors)})
    pq.write_table(table, path)


def _write_edges(path: Path, entity: Entity) -> Path | None:
    if not entity.edges:
        return None
    path.write_text("\n".join(["sensor,neighbour", *(f"{a},{b}" for a, b in entity.edges)]) + "\n")
    return path
