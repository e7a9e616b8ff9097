"""The process that lives for one order: its answers, its limits, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import uvloop
from fault_proxy import FaultProxy
from gateway import Gateway
from static_server import StaticServer, serving
from tuf_repository import NOW_S, Repository

from edge_agent.errors import OtaError
from edge_agent.options import Secret
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Trust
from edge_agent.ota.ring import MAX_RING_BYTES as MOST_BYTES_OF_A_RING
from edge_agent.ota.ring import ModelTarget, ring_path
from edge_agent.ota.trust import work
from edge_agent.ota.trust.child import ChildTrust
from edge_agent.ota.trust.in_process import InProcessTrust
from edge_agent.ota.trust.settings import Settings
from edge_agent.tls import TlsOptions

BIG = os.urandom(3_000_000)


@pytest.fixture
async def proxy(server: StaticServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.server_port) as proxy:
        yield proxy


@pytest.fixture(params=[ChildTrust, InProcessTrust])
def trust(request: pytest.FixtureRequest, gateway: Gateway) -> Trust:
    made: Trust = request.param(Settings(gateway.settings.folder, gateway.settings.root, timeout_s=1.5))
    return made


def target(named: dict) -> ModelTarget:
    return ModelTarget(**named)


STRANGERS: set[int] = set()


@pytest.fixture(autouse=True)
def _strangers() -> None:
    """Processes that others have left us, such as a server that a later test wants."""
    STRANGERS.clear()
    STRANGERS.update(process.pid for process in psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if process.pid not in STRANGERS]


async def one_child() -> psutil.Process:
    """The process, once it has been started."""
    while not (found := children()):
        await asyncio.sleep(0.01)
    return found[0]


async def test_check_and_fetch(trust: Trust, gateway: Gateway, repository: Repository) -> None:
    body = repository.release(BIG)
    checked = await trust.check(gateway.origin, "stable", NOW_S)
    assert json.loads(checked.ring_file) == body
    assert (checked.signed_s, checked.expires_s) == (NOW_S, NOW_S + 86_400)
    await trust.fetch(gateway.origin, target(body["model"]), NOW_S, gateway.model)
    assert gateway.model.read_bytes() == BIG


async def test_errors_come_with_their_reason(trust: Trust, gateway: Gateway, repository: Repository) -> None:
    with pytest.raises(OtaError) as caught:
        await trust.check(gateway.origin, "canary", NOW_S)
    assert caught.value.reason == "missing"
    assert "ring 'canary': nothing was published for it yet" in str(caught.value)
    repository.metadata["timestamp"].signed.version += 1
    repository.put("timestamp", signers=[])
    with pytest.raises(OtaError) as caught:
        await trust.check(gateway.origin, "stable", NOW_S)
    assert caught.value.reason == "signature"


async def test_looks_at_the_same_time_wait_for_each_other(trust: Trust, gateway: Gateway) -> None:
    found = await asyncio.gather(*(trust.check(gateway.origin, "stable", NOW_S) for _ in range(3)))
    assert found[0] == found[1] == found[2]


async def test_a_ring_file_that_is_too_long_is_not_read(
    trust: Trust, gateway: Gateway, repository: Repository, server: StaticServer
) -> None:
    repository.add("rings", ring_path("stable"), b" " * (work.MAX_RING_BYTES + 1))
    repository.publish()
    with pytest.raises(OtaError) as caught:
        await trust.check(gateway.origin, "stable", NOW_S)
    assert caught.value.reason == "too_large"
    assert work.MAX_RING_BYTES == MOST_BYTES_OF_A_RING


async def test_cancelled_it_goes_on_next_time(
    trust: Trust, gateway: Gateway, repository: Repository, proxy: FaultProxy
) -> None:
    named = repository.release(BIG)["model"]
    proxy.swallow_after = 1_500_000
    part = gateway.settings.partial / f"{named['sha256']}.part"
    fetching = asyncio.create_task(trust.fetch(proxy.origin, target(named), NOW_S, gateway.model))
    while not part.exists() or part.stat().st_size < 1_499_000:
        await asyncio.sleep(0.01)
    fetching.cancel()
    await asyncio.wait([fetching])
    assert fetching.cancelled()
    assert children() == []
    proxy.swallow_after = None
    await trust.fetch(proxy.origin, target(named), NOW_S, gateway.model)
    assert gateway.model.read_bytes() == BIG
    assert proxy.passed < 1.05 * len(BIG)


async def test_killed_in_the_middle_it_goes_on_next_time(
    gateway: Gateway, repository: Repository, proxy: FaultProxy
) -> None:
    trust = ChildTrust(gateway.settings)
    named = repository.release(BIG)["model"]
    proxy.swallow_after = 700_000  # of each connection
    for here in (697_000, 1_394_000, 2_091_000):
        part = gateway.settings.partial / f"{named['sha256']}.part"
        fetching = asyncio.create_task(trust.fetch(proxy.origin, target(named), NOW_S, gateway.model))
        while not part.exists() or part.stat().st_size < here:
            await asyncio.sleep(0.01)
        (await one_child()).kill()
        with pytest.raises(OtaError, match="was ended by SIGKILL") as caught:
            await fetching
        assert caught.value.reason == "internal"
    proxy.swallow_after = None
    await trust.fetch(proxy.origin, target(named), NOW_S, gateway.model)
    assert gateway.model.read_bytes() == BIG
    assert proxy.passed < 1.05 * len(BIG)


async def test_killed_at_any_moment_of_a_look_the_next_one_is_right(gateway: Gateway, repository: Repository) -> None:
    trust = ChildTrust(gateway.settings)
    for tenths in range(8):
        counter = repository.release(BIG[: 100 + tenths])["counter"]
        looking = asyncio.create_task(trust.check(gateway.origin, "stable", NOW_S))
        process = await one_child()
        await asyncio.sleep(0.03 * tenths)
        with suppress(psutil.NoSuchProcess):  # it was done before
            process.kill()
        await asyncio.wait([looking])
        looking.exception()
        assert json.loads((await trust.check(gateway.origin, "stable", NOW_S)).ring_file)["counter"] == counter


async def test_a_process_that_hangs_is_killed_with_all_that_it_started(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.ota.trust.child._START_S", 0.0)
    trust = ChildTrust(Settings(gateway.settings.folder, gateway.settings.root, timeout_s=0.3))
    looking = asyncio.create_task(trust.check(gateway.origin, "stable", NOW_S))
    process = await one_child()
    process.suspend()
    with pytest.raises(OtaError) as caught:
        await looking
    assert caught.value.reason == "timeout"
    assert children() == []


async def test_it_ends_with_whoever_gave_the_order(gateway: Gateway, proxy: FaultProxy) -> None:
    proxy.swallow_after = 0
    settings = Settings(gateway.settings.folder, gateway.settings.root, timeout_s=60.0)
    order = {"do": "check", "settings": settings.to_json(), "origin": proxy.origin, "ring": "stable", "now_s": NOW_S}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_agent.ota.trust", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({**order, "attached": True}).encode() + b"\n")
    await process.stdin.drain()
    while not proxy.connections:
        await asyncio.sleep(0.01)
    process.stdin.close()
    assert await process.wait() == 3


async def test_no_secret_of_ours_is_in_its_environment_or_arguments(
    gateway: Gateway, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@192.0.2.1")
    proxy.swallow_after = 0
    options = OtaOptions(
        repository="https://updates.example.com", root=gateway.settings.root,
        tls=TlsOptions(cert_file="client.pem", key_password=Secret("hunter2")),
    )  # fmt: skip
    trust = ChildTrust(Settings.of(options, gateway.settings.folder.parent))
    looking = asyncio.create_task(trust.check(proxy.origin, "stable", NOW_S))
    while not (process := await one_child()).cmdline():
        await asyncio.sleep(0.01)
    seen = json.dumps([process.cmdline(), process.environ()])
    looking.cancel()
    await asyncio.wait([looking])
    assert "edge_agent.ota.trust" in seen
    assert "hunter2" not in seen
    assert "hunter2" not in repr(trust._settings)


async def test_its_limits_hold(gateway: Gateway, proxy: FaultProxy) -> None:
    proxy.swallow_after = 0
    trust = ChildTrust(gateway.settings)
    looking = asyncio.create_task(trust.check(proxy.origin, "stable", NOW_S))
    process = await one_child()
    while not proxy.connections:
        await asyncio.sleep(0.01)
    limits = {kind: process.rlimit(kind)[1] for kind in (psutil.RLIMIT_AS, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE)}
    assert limits == {psutil.RLIMIT_AS: 512 << 20, psutil.RLIMIT_FSIZE: 8 << 20, psutil.RLIMIT_CORE: 0}
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000"
    looking.cancel()
    await asyncio.wait([looking])


async def test_it_needs_less_memory_than_promised(gateway: Gateway, repository: Repository) -> None:
    """``docs/ota-security.md`` has the measured number; this is the limit."""
    trust = ChildTrust(gateway.settings)
    body = repository.release(BIG)
    await trust.check(gateway.origin, "stable", NOW_S)
    looked = trust.peak_rss_bytes
    await trust.fetch(gateway.origin, target(body["model"]), NOW_S, gateway.model)
    assert 10e6 < looked < 60e6
    assert trust.peak_rss_bytes - looked < 5e6  # whatever the length of the file


async def test_how_far_it_is_can_be_seen(gateway: Gateway, repository: Repository) -> None:
    seen: list[tuple[int, int]] = []
    trust = ChildTrust(gateway.settings, lambda here, whole: seen.append((here, whole)))
    body = repository.release(BIG)
    await trust.fetch(gateway.origin, target(body["model"]), NOW_S, gateway.model)
    assert seen[-1] == (len(BIG), len(BIG))


async def test_what_was_damaged_is_logged_by_the_agent(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    (gateway.settings.metadata / "timestamp.json").write_bytes(b"")
    await ChildTrust(gateway.settings).check(gateway.origin, "stable", NOW_S)
    assert "timestamp.json" in caplog.text
    assert "put aside" in caplog.text


def test_the_agent_s_own_event_loop_can_start_it(gateway: Gateway) -> None:
    async def look() -> int:
        return (await ChildTrust(gateway.settings).check(gateway.origin, "stable", NOW_S)).version

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(look()) == gateway.check().version


async def test_what_is_no_answer_is_an_error(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for script, said in (
        ("echo nonsense; echo why >&2; exit 7", "exit code 7 before it had answered: why"),
        ("exit 0", "exit code 0"),
        ("echo '[]'; exit 1", "exit code 1"),
        ("head -c 300000 /dev/zero; exit 2", ""),
    ):
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        with pytest.raises(OtaError) as caught:
            await ChildTrust(gateway.settings).check(gateway.origin, "stable", NOW_S)
        assert caught.value.reason == "internal"
        assert said in str(caught.value)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with pytest.raises(OtaError, match="could be started") as caught:
        await ChildTrust(gateway.settings).check(gateway.origin, "stable", NOW_S)
    assert caught.value.reason == "internal"


def run(code: str, order: object) -> dict:
    """The process by hand: its one answer."""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(order).encode() + b"\n", capture_output=True, timeout=30
    )
    answer: dict = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(
    "order", [None, [], {}, {"do": "guess"}, {"do": ["check"]}, {"do": "check", "settings": {"a": "hunter2"}}]
)
def test_an_order_that_is_none_is_answered(order: object) -> None:
    error = run("import runpy; runpy.run_module('edge_agent.ota.trust', None, '__main__')", order)["error"]
    assert error["reason"] == "internal"
    assert "expected one line of JSON" in error["message"]
    assert "hunter2" not in json.dumps(error)


def test_an_order_says_what_it_lacks(gateway: Gateway) -> None:
    order = {"do": "check", "settings": gateway.settings.to_json(), "now_s": NOW_S}
    error = run("import runpy; runpy.run_module('edge_agent.ota.trust', None, '__main__')", order)["error"]
    assert error["message"] == "order: origin, ring: missing"


def test_without_tuf_it_says_what_to_install(gateway: Gateway) -> None:
    without = "import sys, runpy; sys.modules['tuf'] = None; runpy.run_module('edge_agent.ota.trust', None, '__main__')"
    order = {"do": "check", "settings": gateway.settings.to_json(), "origin": gateway.origin, "ring": "a", "now_s": 0}
    answer = run(without, order)
    assert answer["error"]["reason"] == "internal"
    assert "pip install 'edge-graph-agent[ota]'" in answer["error"]["message"]


def test_the_agent_does_not_load_what_only_the_process_needs() -> None:
    code = "import edge_agent.ota.trust.child, sys; print({'tuf', 'securesystemslib', 'urllib3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "set()"


def test_the_process_does_not_load_what_only_the_agent_needs() -> None:
    code = "import edge_agent.ota.trust.work, edge_agent.ota.trust.web, edge_agent.ota.trust.__main__, sys; "
    code += "print({'pydantic', 'numpy', 'onnxruntime', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "set()"


def test_two_processes_in_one_folder_wait_for_each_other(gateway: Gateway) -> None:
    held = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", held, str(gateway.settings.folder / "trust.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        busy = Gateway.__new__(Gateway)
        busy.settings = Settings(gateway.settings.folder, gateway.settings.root, timeout_s=0.2)
        busy.origin = gateway.origin
        with pytest.raises(OtaError) as caught:
            busy.check()
        assert caught.value.reason == "timeout"
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    gateway.check()


@pytest.fixture
def other_gateway(tmp_path: Path, repository: Repository) -> Iterator[Gateway]:
    with serving(repository.folder) as server:
        yield Gateway(tmp_path / "other", server.origin, repository.first_root)


async def test_many_gateways_in_one_process(gateway: Gateway, other_gateway: Gateway) -> None:
    both = [InProcessTrust(each.settings).check(each.origin, "stable", NOW_S) for each in (gateway, other_gateway)]
    first, second = await asyncio.gather(*both)
    assert first == second
