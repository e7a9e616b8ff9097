import time

import numpy as np
import onnxruntime
import pytest
from bundle_factory import (
    STATES,
    D,
    GraphBuilder,
    bundle_with,
    make_files,
    mix_types,
    nan_when_value_is_below_minus_1000,
    rewire,
    ring,
)
from ticks import NAMES, noise, tick

from edge_agent.bundle import Bundle, verify_bundle
from edge_agent.errors import BundleError
from edge_agent.inference import DetectorError, OnnxDetector, StatisticalDetector, build_detector


def test_scores_are_those_of_plain_onnx_runtime(tiny_bundle: Bundle) -> None:
    detector = OnnxDetector(tiny_bundle)
    session = onnxruntime.InferenceSession(tiny_bundle.model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    state = {f"state.{s.name}": np.full((8, *s.shape), s.init, np.float32) for s in STATES}
    for snapshot in noise(50):
        feed = {
            "value": snapshot.value.astype(np.float32),
            "age": snapshot.age,
            "quality": np.zeros(8, np.int32),
            "neighbour": snapshot.neighbour,
            "context": np.zeros((8, D), np.float32),
        }
        expected = dict(zip(names, session.run(None, {**feed, **state}), strict=True))
        state = {f"state.{s.name}": expected[f"next_state.{s.name}"] for s in STATES}
        scores = detector.score(snapshot)
        for name in ("score", "expected", "scale", "attention"):
            np.testing.assert_allclose(getattr(scores, name), expected[name], rtol=1e-6)


def test_name_and_needs_come_from_the_manifest(tiny_bundle: Bundle) -> None:
    detector = build_detector(tiny_bundle)
    assert (detector.name, detector.version, detector.degraded) == ("tiny", "1.0.0", False)
    assert (detector.neighbours, detector.warmup_ticks) == (3, 20)


def test_without_a_bundle_the_statistical_detector_is_built_and_says_that_it_is_degraded() -> None:
    detector = build_detector(None)
    assert isinstance(detector, StatisticalDetector)
    assert detector.degraded


def test_known_sensor_gets_its_own_context_and_a_stranger_the_default() -> None:
    plain = OnnxDetector(verify_bundle(make_files(sensors=("s1",), default_context=(2.0, 3.0))))
    none = np.full((2, 3), -1)
    for snapshot in noise(40, ("s0", "s1"), neighbour=none):
        scores = plain.score(snapshot)
    universal = OnnxDetector(verify_bundle(make_files()))
    for snapshot in noise(40, ("s0", "s1"), neighbour=none):
        without = universal.score(snapshot)
    np.testing.assert_allclose(scores.score - without.score, [0.005, 0.001], atol=1e-5)


@pytest.mark.parametrize("output", ["score", "expected", "attention", "next_state.mean"])
def test_tick_that_is_not_finite_fails_and_leaves_the_state_as_it_was(output: str) -> None:
    def poison(builder: GraphBuilder, before: str) -> str:
        nothing = nan_when_value_is_below_minus_1000(builder, builder.const(0.0))
        if output == "attention":
            nothing = builder.op("Unsqueeze", nothing, builder.const([1], np.int64))
        return builder.op("Add", before, nothing)

    bundle = bundle_with(rewire(output, poison))
    named = "expected" if output == "attention" else output  # The estimate is made with the attention.
    detector, untouched = OnnxDetector(bundle), OnnxDetector(bundle)
    for snapshot in noise(40):
        detector.score(snapshot)
        untouched.score(snapshot)
        bad = tick(np.where(np.arange(8) == 3, -2000.0, 20.0))
        with pytest.raises(DetectorError, match=rf"the model gave \d+ numbers in '{named}' that are not finite"):
            detector.score(bad)
    found, expected = detector.score(tick(21.0)), untouched.score(tick(21.0))
    assert np.array_equal(found.score, expected.score)
    assert np.array_equal(found.valid, expected.valid)


def test_output_of_another_shape_fails_the_tick() -> None:
    bundle = bundle_with(rewire("score", lambda b, x: b.op("Concat", x, x, axis=0)))
    with pytest.raises(DetectorError, match="the model failed on 8 sensors"):
        OnnxDetector(bundle).score(tick(20.0))


def test_model_that_onnx_runtime_refuses_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: ONNX Runtime .* cannot load it: .*type"):
        build_detector(bundle_with(mix_types))


def test_negative_scores_of_a_model_are_cut_at_zero() -> None:
    detector = OnnxDetector(bundle_with(rewire("score", lambda b, x: b.op("Neg", x))))
    for snapshot in noise(40):
        assert not detector.score(snapshot).score.any()


def test_topology_change_at_10_000_sensors_is_within_its_budget(tiny_bundle: Bundle) -> None:
    names = tuple(f"sensor-{row}" for row in range(10_000))
    detector = OnnxDetector(tiny_bundle)
    detector.score(tick(20.0, names, neighbour=ring(10_000)))
    changed = tick(20.0, (*names[1:], "new"), topology=1, neighbour=ring(10_000))
    started = time.perf_counter()
    detector.score(changed)
    assert time.perf_counter() - started < 0.2


def test_sensors_keep_their_names_for_the_state(tiny_bundle: Bundle) -> None:
    detector = OnnxDetector(tiny_bundle)
    detector.score(tick(20.0))
    assert detector.export_state()["sensors"].tolist() == list(NAMES)
