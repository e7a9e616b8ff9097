"""Damaged models: the gate says nothing but BundleError, and what it lets through kills no process."""

import itertools
import os
import signal

import pytest
from bundle_factory import make_files, make_model
from mutants import RUNS, judge_of, mutants, run_in_workers

from edge_agent.bundle import inspect_model, parse_manifest, universal_bundle, verify_bundle
from edge_agent.bundle.arrays import read_npz
from edge_agent.bundle.manifest import MANIFEST
from edge_agent.errors import BundleError

SEED = 20261120


@pytest.mark.parametrize("model", [make_model(), universal_bundle().model], ids=["tiny", "universal"])
def test_gate_gives_facts_or_a_bundle_error(model: bytes) -> None:
    said: list[str] = []
    for raw in itertools.islice(mutants(model, SEED), 1_500):
        try:
            inspect_model(raw)
        except BundleError as error:
            said.append(str(error))
    assert 0 < len(said) < 1_500
    assert all(message.startswith("model.onnx: ") and len(message) < 1_000 for message in said)


def test_arrays_and_manifests_give_values_or_a_bundle_error() -> None:
    files = make_files()
    for raw in itertools.islice(mutants(files["golden.npz"], SEED), 1_000):
        try:
            read_npz("golden.npz", raw, 1 << 20)
        except BundleError:
            continue
    for raw in itertools.islice(mutants(files[MANIFEST], SEED), 1_000):
        try:
            parse_manifest(raw)
        except BundleError:
            continue


def test_what_passes_the_gate_kills_no_worker() -> None:
    ends = run_in_workers(mutants(make_model(), SEED), 400, judge_of(verify_bundle(make_files())))
    assert (ends.tried, ends.killed) == (400, 0)
    assert ends.run > 0
    assert ends.gate_refused > 0


def test_worker_that_is_killed_is_counted_and_the_rest_goes_on() -> None:
    def judge(raw: bytes) -> int:
        if raw == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return RUNS

    ends = run_in_workers(iter([b"a", b"kill", b"b", b"c"]), 4, judge)
    assert (ends.tried, ends.run, ends.killed) == (4, 3, 1)
