"""The child does the dangerous part; the agent's process neither grows nor waits."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from bundle_factory import make_files, make_model
from corpus import PROBE, Case, all_cases, folder
from corpus_good import CHANGES

from edge_agent.bundle import read_bundle, universal_bundle
from edge_agent.bundle.store import UNIVERSAL
from edge_agent.errors import BundleError, OtaError
from edge_agent.ota.probe import Budget, ChildProber
from edge_agent.ota.ring import Limits

CASES = all_cases()
PROBER = ChildProber(Budget(cpu_s=1.5, wall_s=60.0))
NO_LIMITS = Limits()


@pytest.mark.parametrize("case", [case for case in CASES if case.stage == PROBE], ids=lambda case: case.name)
async def test_model_that_is_no_good_is_refused_when_it_runs(case: Case, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    with pytest.raises(OtaError) as caught:
        await PROBER.probe(path, NO_LIMITS)
    assert caught.value.reason == "probe"
    assert case.message in str(caught.value)
    assert str(caught.value).startswith(f"bundle {path}: ")
    assert "\n" not in str(caught.value)


async def test_the_model_that_is_shipped_passes() -> None:
    assert await PROBER.gate(UNIVERSAL) == universal_bundle().sha256
    probed = await PROBER.probe(UNIVERSAL, NO_LIMITS)
    assert probed.bundle == universal_bundle().sha256
    assert 0.0 < probed.p50_ms <= probed.p99_ms < 50.0
    assert 0.0 < probed.rss_mb < 50.0
    assert 0.0 <= probed.deviation < 1.0


@pytest.mark.parametrize("change", CHANGES)
def test_what_exporters_write_passes_the_gate_and_loads(change: object, tmp_path: Path) -> None:
    model = make_model(change_model=change)  # type: ignore[arg-type]
    read_bundle(folder(make_files(model=model))(tmp_path))
    assert onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


async def test_limits_of_the_ring_come_before_those_of_the_bundle() -> None:
    with pytest.raises(OtaError, match=r"expected at most 0\.0001"):
        await PROBER.probe(UNIVERSAL, Limits(p99_ms=1e-4))
    with pytest.raises(OtaError, match=r"MB of memory, expected at most 0\.01"):
        await PROBER.probe(UNIVERSAL, Limits(rss_mb=0.01))


async def test_memory_need_not_be_limited() -> None:
    assert (await ChildProber(Budget(memory_bytes=None)).probe(UNIVERSAL, NO_LIMITS)).deviation < 1.0


async def test_too_little_address_space_is_said() -> None:
    with pytest.raises(OtaError, match="needs too much memory, expected at most 0 MB and four times the file"):
        await ChildProber(Budget(memory_bytes=0)).probe(UNIVERSAL, NO_LIMITS)


async def test_operator_is_told_by_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        await PROBER.try_out(tmp_path / "nothing.tar")
    assert (await PROBER.try_out(UNIVERSAL)).bundle == universal_bundle().sha256


async def test_child_that_takes_too_long_is_ended() -> None:
    with pytest.raises(OtaError, match=r"took longer than 0\.05 s, and was ended") as caught:
        await ChildProber(Budget(wall_s=0.05)).probe(UNIVERSAL, NO_LIMITS)
    assert caught.value.reason == "starved"  # it may be tried again: nothing is known against the model
    assert not children()


async def test_cancelling_ends_the_child() -> None:
    task = asyncio.create_task(PROBER.probe(UNIVERSAL, NO_LIMITS))
    await appears()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
async def test_child_that_dies_by_a_signal_is_told_as_such(number: signal.Signals) -> None:
    task = asyncio.create_task(PROBER.probe(UNIVERSAL, NO_LIMITS))
    os.kill(await appears(), number)
    with pytest.raises(OtaError, match=f"the process that tried it died of {number.name}") as caught:
        await task
    assert caught.value.reason == ("starved" if number is signal.SIGKILL else "probe")


async def test_an_agent_that_cannot_start_a_child_blames_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(OtaError, match="the probe cannot be started: No such file") as caught:
        await PROBER.gate(UNIVERSAL)
    assert caught.value.reason == "internal"
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(OtaError, match="it ended with code 1 and without an answer") as caught:
        await PROBER.gate(UNIVERSAL)
    assert caught.value.reason == "internal"


@pytest.mark.parametrize(
    ("answer", "reason", "message"),
    [
        ('{"passed": {"bundle": "x"}}', "probe", "its probe gave no measurements"),
        ('{"passed": 1}', "internal", "ended with code 0 and without an answer"),
        ("[]", "internal", "ended with code 0 and without an answer"),
        ("x" * 100_000, "probe", "its probe answered with more than 65536 bytes"),
        ('{"trouble": "no disk"}', "internal", "the probe could not be made: no disk"),
        ('{"refused": "two\\nlines"}', "probe", "bundle .*: two lines$"),
    ],
)
async def test_whatever_a_child_answers_is_taken_for_a_refusal_at_most(
    answer: str, reason: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "answer").write_text(answer + "\n")
    child = tmp_path / "python"
    child.write_text(f"#!/bin/sh\nexec cat {tmp_path}/answer\n")
    child.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    with pytest.raises(OtaError, match=message) as caught:
        await PROBER.probe(UNIVERSAL, NO_LIMITS)
    assert caught.value.reason == reason


async def test_child_has_no_secret_no_rights_and_the_least_claim_to_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_PASSWORD", "hunter2")
    task = asyncio.create_task(PROBER.probe(UNIVERSAL, NO_LIMITS))
    proc = Path(f"/proc/{await appears()}")
    while "onnxruntime" not in (proc / "maps").read_text():
        await asyncio.sleep(0.005)
    os.kill(int(proc.name), signal.SIGSTOP)
    environment, status = (proc / "environ").read_text(), (proc / "status").read_text()
    assert "hunter2" not in environment + (proc / "cmdline").read_text()
    assert "ORT_DISABLE_TELEMETRY=1" in environment
    assert "NoNewPrivs:\t1" in status
    assert (proc / "oom_score_adj").read_text() == "1000\n"
    assert os.getpgid(int(proc.name)) == int(proc.name) != os.getpgid(0)
    assert os.getpriority(os.PRIO_PROCESS, int(proc.name)) >= 10
    os.kill(int(proc.name), signal.SIGCONT)
    await task


@pytest.mark.slow
async def test_the_corpus_is_contained_and_the_agent_neither_grows_nor_waits(tmp_path: Path) -> None:
    """Some of it: each by itself is tried above, or at the gate (``test_gate_corpus.py``)."""
    await PROBER.gate(UNIVERSAL)  # what the first child costs is not theirs
    cases = CASES if os.environ.get("EDGE_AGENT_LONG_TESTS") else CASES[::6]
    paths = {case.name: case.make(place(tmp_path, number)) for number, case in enumerate(cases)}
    before = resident_mb()
    async with worst_pause() as pauses:
        for case in cases:
            with pytest.raises(OtaError) as caught:
                await both(paths[case.name])
            assert (caught.value.reason, case.message in str(caught.value)) == (case.stage, True), case.name
    assert resident_mb() - before < 10.0
    # Others use this machine too; the benchmark tells the hard number.
    assert np.percentile(pauses, 99) < 0.05
    assert not children()


async def both(path: Path) -> None:
    await PROBER.gate(path)
    await PROBER.probe(path, NO_LIMITS)


def place(folder: Path, number: int) -> Path:
    path = folder / str(number)
    path.mkdir()
    return path


STRANGERS: set[int] = set()


@pytest.fixture(autouse=True)
def _strangers() -> None:
    """Processes that others have left us, such as a server that a later test wants."""
    STRANGERS.clear()
    STRANGERS.update(children())


def children() -> list[int]:
    """Processes that this test has started and not seen the end of."""
    tasks: Iterator[Path] = Path("/proc/self/task").iterdir()
    found = (int(pid) for task in tasks for pid in (task / "children").read_text().split())
    return [pid for pid in found if pid not in STRANGERS]


async def appears() -> int:
    """The child, once it runs what it should."""
    while True:
        for pid in children():
            if b"edge_agent.ota.probe" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        await asyncio.sleep(0.002)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


@asynccontextmanager
async def worst_pause() -> AsyncIterator[list[float]]:
    """How much later than asked the loop came back, again and again."""
    pauses: list[float] = []

    async def beat() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.005)
            pauses.append(time.perf_counter() - begun - 0.005)

    task = asyncio.create_task(beat())
    try:
        yield pauses
    finally:
        task.cancel()
