"""What is hostile without being run is refused by one sentence, quickly, and by nothing but a BundleError."""

import time
from pathlib import Path

import pytest
from corpus import GATE, PROBE, Case, all_cases

from edge_agent.bundle import inspect_model, read_bundle, universal_bundle
from edge_agent.errors import BundleError

CASES = all_cases()
SLOWEST_S = 2.0


def test_corpus_is_large_and_its_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert sum(case.stage == GATE for case in CASES) >= 100
    assert sum(case.stage == PROBE for case in CASES) >= 25


@pytest.mark.parametrize("case", [case for case in CASES if case.stage == GATE], ids=lambda case: case.name)
def test_hostile_candidate_is_refused_without_being_run(case: Case, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    begun = time.thread_time()
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    assert time.thread_time() - begun < SLOWEST_S
    assert case.message in str(caught.value)
    assert str(caught.value).startswith(f"bundle {path}: ")


@pytest.mark.parametrize("case", [case for case in CASES if case.stage == PROBE], ids=lambda case: case.name)
def test_what_only_a_run_can_show_passes_the_gate(case: Case, tmp_path: Path) -> None:
    read_bundle(case.make(tmp_path))


def test_a_good_model_of_a_megabyte_passes_within_50_ms(tmp_path: Path) -> None:
    import corpus_good

    raw = corpus_good.large_model(1 << 20)
    assert len(raw) > 1 << 20
    times = []
    for _ in range(5):
        begun = time.thread_time()
        inspect_model(raw)
        times.append(time.thread_time() - begun)
    assert min(times) < 0.05


def test_the_model_that_is_shipped_passes_within_50_ms() -> None:
    raw = universal_bundle().model
    times = []
    for _ in range(5):
        begun = time.thread_time()
        inspect_model(raw)
        times.append(time.thread_time() - begun)
    assert min(times) < 0.05
