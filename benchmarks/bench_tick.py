"""The tick: readings aligned to decision, beside the bare ONNX Runtime call with the same inputs.

The whole ensemble is at work, up to the number of sensors at which companions are left out (2,000).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import numpy as np
from result import Result

from edge_agent.bundle import Bundle, universal_bundle
from edge_agent.clock import VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.inference import OnnxDetector, StatisticalDetector
from edge_agent.intake.options import IntakeOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch

GOAL_MS = {51: 10.0, 1_000: 10.0, 10_000: 50.0}
MEDIAN_GOAL = {51: 3.0, 1_000: 2.0, 10_000: 2.0}  # times the bare call
JOINED = 400  # ticks after which all companions have their say


class Plant:
    """A pipeline with ``count`` sensors that follow a few common causes."""

    def __init__(self, count: int) -> None:
        self.clock = VirtualClock(1_760_000_000_000_000_000)
        self.detector = OnnxDetector(universal_bundle())
        options = PipelineOptions(intake=IntakeOptions(max_sensors=20_000))
        self.pipeline = Pipeline(
            options, self.detector, StatisticalDetector, self.clock, Metrics(), UlidMaker(random.Random(0))
        )
        self.port = self.pipeline.port("bench", SourceOptions(type="bench"))
        self.names = tuple(f"s{i}" for i in range(count))
        rng = np.random.default_rng(0)
        self._mix = rng.normal(size=(count, 4))
        self._rng = rng
        self._tick = 0

    def step(self) -> float:
        """Feed one tick; seconds from readings aligned (taken) to decision."""
        self.clock.advance(1_000_000_000)
        self._tick += 1
        causes = np.sin(self._tick / np.array([7.0, 19.0, 43.0, 101.0]))
        values = self._mix @ causes + 0.1 * self._rng.normal(size=len(self.names))
        self.pipeline.take(self.port, Batch(self.names, values, self.clock.monotonic_ns()))
        began = time.perf_counter()
        self.pipeline.tick(self.clock.monotonic_ns())
        return time.perf_counter() - began


def bare_call(bundle: Bundle, plant: Plant, ticks: int) -> list[float]:
    """Seconds of ``ticks`` bare calls of the session, with the same shapes and threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
    snapshot = plant.pipeline.last_report.snapshot  # type: ignore[union-attr]
    manifest, n = bundle.manifest, len(snapshot)
    feed = {
        "value": snapshot.value.astype(np.float32),
        "age": snapshot.age,
        "quality": np.zeros(n, np.int32),
        "neighbour": snapshot.neighbour,
        "context": np.tile(np.array(manifest.default_context, np.float32), (n, 1)),
    }
    for state in manifest.states:
        feed[f"state.{state.name}"] = np.full((n, *state.shape), state.init, np.dtype(state.dtype))
    wanted = {one.name for one in session.get_inputs()}
    feed = {name: array for name, array in feed.items() if name in wanted}
    outputs = [output.name for output in session.get_outputs()]
    spent = []
    for _ in range(ticks):
        began = time.perf_counter()
        result = session.run(None, feed)
        spent.append(time.perf_counter() - began)
        for name, array in zip(outputs, result, strict=True):
            if name.startswith("next_state."):
                feed["state." + name.removeprefix("next_state.")] = array
    return spent


def run() -> Iterator[Result]:
    """One result for each number of sensors, and one for a change of topology."""
    bundle = universal_bundle()
    for count, ticks in ((51, 3000), (1_000, 600), (10_000, 150)):
        plant = Plant(count)
        for _ in range(JOINED if count <= 2_000 else ticks // 3):
            plant.step()
        companions = plant.pipeline.companions
        assert companions is not None
        assert companions.heard == (count <= 2_000)
        spent = [plant.step() for _ in range(ticks)]
        control = bare_call(bundle, plant, ticks)
        p99, control_p99 = (float(np.percentile(one, 99)) * 1e3 for one in (spent, control))
        goal = GOAL_MS[count]
        yield Result(
            f"tick_{count}", p99, "ms p99", control_p99, "bare ONNX Runtime call p99", f"< {goal:g} ms", p99 < goal
        )
        p50, control_p50 = (float(np.median(one)) * 1e3 for one in (spent, control))
        yield Result(
            f"tick_{count}_p50",
            p50,
            "ms p50",
            control_p50,
            "bare ONNX Runtime call p50",
            f"<= {MEDIAN_GOAL[count]:g} x",
            p50 <= MEDIAN_GOAL[count] * control_p50,
        )
        if count == 10_000:
            yield _topology(plant, float(np.median(spent)) * 1e3)


def _topology(plant: Plant, ordinary_ms: float) -> Result:
    """The tick on which a sensor joins and another leaves, of 10,000."""
    spent = []
    for k in range(20):
        plant.pipeline.intake.remove([plant.names[k]])
        plant.names = (*plant.names[:k], f"new{k}", *plant.names[k + 1 :])
        spent.append(plant.step() * 1e3)
    worst = max(spent)
    return Result("topology_change_10000", worst, "ms max", ordinary_ms, "ordinary tick p50", "< 200 ms", worst < 200)
