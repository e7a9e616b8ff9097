from typing import Any

import numpy as np
import pytest
from bundle_factory import (
    GraphBuilder,
    bundle_with,
    make_files,
    make_manifest,
    make_model,
    make_parts,
    mix_types,
    nan_when_value_is_below_minus_1000,
    rewire,
)

from edge_agent.bundle import Bundle, Limits, verify_bundle, write_npz
from edge_agent.bundle.arrays import read_npz
from edge_agent.bundle.store import seal
from edge_agent.errors import BundleError
from edge_agent.inference import self_test


def refusal(bundle: Bundle) -> str:
    with pytest.raises(BundleError) as caught:
        self_test(bundle)
    return str(caught.value)


def with_golden(change: Any) -> Bundle:
    parts = make_parts()
    golden = {name: array.copy() for name, array in read_npz("golden", parts["golden.npz"], 1 << 20).items()}
    change(golden)
    return verify_bundle(seal(make_manifest(), {**parts, "golden.npz": write_npz(golden)}))


def test_good_bundle_passes_and_is_timed(tiny_bundle: Bundle) -> None:
    report = self_test(tiny_bundle)
    assert (report.ticks, report.sensors) == (64, 5)
    assert 0.0 <= report.deviation < 1e-3
    assert 0.0 < report.p50_ms <= report.p99_ms < 500.0


def test_self_test_can_be_repeated(tiny_bundle: Bundle) -> None:
    assert self_test(tiny_bundle).deviation == self_test(tiny_bundle).deviation


@pytest.mark.parametrize(("error", "passes"), [(0.9e-3, True), (1.1e-3, False)])
def test_output_may_differ_by_the_tolerance_and_no_more(error: float, passes: bool) -> None:
    def change(golden: dict[str, np.ndarray]) -> None:
        # The first tick is warming up, so its score is exactly 0 and only the absolute tolerance counts.
        golden["out.score"][0, 2] = error

    bundle = with_golden(change)
    if passes:
        assert self_test(bundle).deviation == pytest.approx(0.9, rel=0.01)
    else:
        message = refusal(bundle)
        assert message == "self-test of tiny 1.0.0: golden tick 0, score: got 0, expected 0.0011 ± 0.0010011"


@pytest.mark.parametrize("output", ["expected", "scale", "score", "attention"])
def test_every_output_is_compared(output: str) -> None:
    def change(golden: dict[str, np.ndarray]) -> None:
        golden[f"out.{output}"][63] += 0.5

    assert f"golden tick 63, {output}: got " in refusal(with_golden(change))


def test_state_is_carried_through_the_golden_ticks() -> None:
    bundle = bundle_with(rewire("next_state.mean", lambda b, x: b.op("Mul", x, b.const(0.99))))
    assert "golden tick 1, " in refusal(bundle)


def test_model_with_the_number_of_sensors_baked_in_is_refused() -> None:
    def bake(builder: GraphBuilder, before: str) -> str:
        return builder.op("Reshape", before, builder.const([5], np.int64))

    assert "the model failed on 1 sensors" in refusal(bundle_with(rewire("score", bake)))


def test_model_that_is_not_finite_on_hard_inputs_is_refused() -> None:
    message = refusal(bundle_with(rewire("score", nan_when_value_is_below_minus_1000)))
    assert "numbers in 'score' that are not finite" in message


def test_model_that_divides_by_the_variance_of_a_constant_is_refused() -> None:
    def divide(builder: GraphBuilder, before: str) -> str:
        ratio = builder.op("Div", "state.variance", "state.variance")
        return builder.op("Add", before, builder.op("Sub", ratio, ratio))

    assert "not finite" in refusal(bundle_with(rewire("score", divide)))


def test_model_slower_than_it_claims_is_refused() -> None:
    bundle = verify_bundle(make_files(limits=Limits(p99_ms=0.001, rss_mb=100.0)))
    assert "p99 of a tick with 5 sensors is " in refusal(bundle)
    assert "expected at most 0.001" in refusal(bundle)


def test_model_that_cannot_be_loaded_is_refused() -> None:
    assert "cannot load it" in refusal(bundle_with(mix_types))


def test_right_digest_of_wrong_weights_is_refused() -> None:
    def double(model: Any) -> None:
        for tensor in model.graph.initializer:
            if tensor.raw_data == np.float32(0.05).tobytes():
                tensor.raw_data = np.float32(0.1).tobytes()

    assert "golden tick" in refusal(verify_bundle(make_files(model=make_model(change_model=double))))
