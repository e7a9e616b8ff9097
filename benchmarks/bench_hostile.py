"""Hostile models and bundles: the corpus of the tests through the real child processes, and mutants of the real model.

The control of the corpus is the same number of good candidates; of the mutants, the model itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from result import Result

from edge_agent.bundle import inspect_model, universal_bundle
from edge_agent.bundle.store import UNIVERSAL
from edge_agent.errors import BundleError, OtaError
from edge_agent.ota.probe import Budget, ChildProber
from edge_agent.ota.ring import Limits

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "inference"), str(TESTS / "ota" / "probe")]
SEED = 1
MUTANTS, MUTANTS_RUN = 100_000, 4_000
BEAT_S = 0.005
GOOD_RUNS, IDLE_S = 10, 20


def run() -> Iterator[Result]:
    """All cases."""
    yield from asyncio.run(_corpus())
    yield _gate_time()
    yield from _mutants()


async def _corpus() -> list[Result]:
    from corpus import Case, all_cases

    cases, prober = all_cases(), ChildProber(Budget(cpu_s=5.0))

    async def contained(case: Case, path: Path) -> bool:
        try:
            await prober.gate(path)
            await prober.probe(path, Limits())
        except OtaError as error:
            if error.reason == case.stage and case.message in str(error):
                return True
            print(f"{case.name}: {error}", file=sys.stderr)
        return False

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, case in enumerate(cases):
            place = Path(folder) / str(number)
            place.mkdir()
            paths.append(case.make(place))
        good, begun = 0, time.perf_counter()
        for _ in range(GOOD_RUNS):
            good += (await prober.probe(UNIVERSAL, Limits())).bundle == universal_bundle().sha256
        probe_s = (time.perf_counter() - begun) / GOOD_RUNS
        idle_pause = [0.0]
        beat = asyncio.create_task(_beat(idle_pause))
        await asyncio.sleep(IDLE_S)
        beat.cancel()
        before, pause = _resident_mb(), [0.0]
        beat = asyncio.create_task(_beat(pause))
        stopped = sum([await contained(case, path) for case, path in zip(cases, paths, strict=True)])
        beat.cancel()
    grown = _resident_mb() - before
    share = 100.0 * stopped / len(cases)
    passed = 100.0 * good / GOOD_RUNS
    is_good = f"{GOOD_RUNS} probes of the shipped model: passed"
    all_right, worst, worst_idle = share == passed == 100.0, 1e3 * pause[0], 1e3 * idle_pause[0]
    return [
        Result(
            "hostile_contained", share, f"% of {len(cases)}", passed, is_good, "100 %, all good ones pass", all_right
        ),
        Result("hostile_parent_growth", grown, "MB", before, "before", "< 10 MiB", grown < 10.5),
        Result("hostile_loop_pause", worst, "ms", worst_idle, f"nothing to do, {IDLE_S} s", "< 50 ms", worst < 50.0),
        Result("probe_good", probe_s, "s", probe_s, "itself", "< 5 s", probe_s < 5.0),
    ]


async def _beat(worst: list[float]) -> None:
    """Keeps the longest delay of the loop, in s."""
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(BEAT_S)
        worst[0] = max(worst[0], time.perf_counter() - begun - BEAT_S)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def _gate_time() -> Result:
    from corpus_good import large_model

    large, shipped = (min(_timed(raw) for _ in range(20)) for raw in (large_model(1 << 20), universal_bundle().model))
    return Result("gate_1_mb", large, "ms", shipped, "the shipped model", "< 50 ms", large < 50.0)


def _timed(raw: bytes) -> float:
    begun = time.perf_counter()
    inspect_model(raw)
    return 1e3 * (time.perf_counter() - begun)


def _mutants() -> Iterator[Result]:
    from bundle_factory import make_files, make_model
    from mutants import judge_of, mutants, run_in_workers

    from edge_agent.bundle import verify_bundle

    strange = refused = 0
    for model, count in ((make_model(), MUTANTS * 4 // 5), (universal_bundle().model, MUTANTS // 5)):
        for raw in itertools.islice(mutants(model, SEED), count):
            try:
                inspect_model(raw)
            except BundleError:
                refused += 1
            except Exception as error:
                strange += 1
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
    yield Result("mutants_gate", strange, f"unexpected errors in {MUTANTS}", refused, "refused", "0", strange == 0)
    for name, bundle in (("tiny", verify_bundle(make_files())), ("universal", universal_bundle())):
        ends = run_in_workers(mutants(bundle.model, SEED + 1, most=1), MUTANTS_RUN, judge_of(bundle))
        print(f"{name}: {ends}", file=sys.stderr)
        where = f"workers killed by {MUTANTS_RUN}"
        yield Result(
            f"mutants_run_{name}",
            ends.killed,
            where,
            ends.run,
            "run",
            "told, 0 of the agent",
            ends.tried == MUTANTS_RUN,
        )
