"""The daemon as a whole, in virtual time: start, stop, failures, model swap, reload, learned state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from typing import Any

import probe_adapters as probe
import pytest
from bundle_factory import GraphBuilder, bundle_with, make_files, nan_when_value_is_below_minus_1000, rewire

from edge_agent import registry
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.config import parse_config
from edge_agent.daemon import Daemon
from edge_agent.daemon.reload import apply_config
from edge_agent.errors import BundleError, ConfigError, ControlError, StoreError
from edge_agent.history import History
from edge_agent.inference import StatisticalDetector
from edge_agent.pipeline.rewarm import SETTLING_TICKS

T0 = 1_760_000_000 * NS_PER_S
CONFIG = """
agent: {{name: under-test, data_dir: {folder}/data, stop_timeout: 1s}}
api: {{enabled: false}}
history: {{enabled: false}}
sources: {{press: {{type: probe, retry_max: 1h}}}}
sinks: {{desk: {{type: probe, events: [incident, status, scores]}}}}
model: {{bundle: {bundle}}}
"""


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries = [
        EntryPoint("probe", "probe_adapters:SOURCE", "edge_agent.sources"),
        EntryPoint("probe", "probe_adapters:SINK", "edge_agent.sinks"),
        EntryPoint("probe", "probe_adapters:UPLINK", "edge_agent.uplinks"),
    ]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [e for e in entries if e.group == group])
    registry.refresh()
    for kept in (probe.log, probe.delivered, probe.sources, probe.told):
        kept.clear()
    yield
    monkeypatch.undo()
    registry.refresh()


def bundle_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class Bench:
    """A daemon on a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = VirtualClock(T0)
        self.path = folder / "agent.yaml"
        self.tiny = bundle_folder(folder / "tiny", make_files())
        self.config = CONFIG

    def make(self, change: Callable[[str], str] = lambda text: text) -> Daemon:
        self.write(change)
        return Daemon(parse_config(self.path.read_text(), self.path, {}), self.clock, seed=0)

    def write(self, change: Callable[[str], str] = lambda text: text) -> None:
        self.path.write_text(change(CONFIG.format(folder=self.folder, bundle=self.tiny)))

    async def tick(self, daemon: Daemon, count: int = 1) -> None:
        assert daemon.pipeline is not None
        for _ in range(count):
            ticks = daemon.pipeline.ticks
            self.clock.advance(NS_PER_S)
            await until(lambda ticks=ticks: daemon.pipeline.ticks > ticks)  # type: ignore[misc,union-attr]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def slightly_other(builder: GraphBuilder, before: str) -> str:
    """Another network; it differs by less than its self-test forgives."""
    return builder.op("Mul", before, builder.const(1.0001))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(daemon: Daemon, exit_code: int = 0) -> AsyncIterator[Daemon]:
    """The daemon from its first source to its stop."""
    task = asyncio.create_task(daemon.run())
    await until(lambda: task.done() or "press runs" in probe.log)
    yield daemon
    daemon.stop()
    async with asyncio.timeout(10):
        assert await task == exit_code


# -- health ----------------------------------------------------------------------------------------------------


async def test_a_disk_that_takes_nothing_is_told_until_it_does(bench: Bench) -> None:
    blocked = bench.folder / "data/notify.json"
    (blocked / "in the way").mkdir(parents=True)  # no file can be put there
    async with running(bench.make()) as daemon:
        await bench.tick(daemon, 3)
        await until(lambda: "the disk does not take: who was told what" in daemon.control.readiness()[1])
        assert daemon.control.liveness() == (True, [])
        (blocked / "in the way").rmdir()
        blocked.rmdir()
        await bench.tick(daemon, 3)
        await until(lambda: not any("disk" in reason for reason in daemon.control.readiness()[1]))


# -- start and stop --------------------------------------------------------------------------------------------


async def test_sinks_are_there_before_sources_and_leave_after_them(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        await bench.tick(daemon, 2)
    assert probe.log == ["desk opens", "press runs", "press stops", "desk closes"]


async def test_what_was_accepted_before_the_stop_is_scored_and_delivered(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        await bench.tick(daemon)
        probe.sources["press"].give(a=4.25)
    assert daemon.pipeline is not None
    assert daemon.pipeline.last_report is not None
    assert daemon.pipeline.last_report.snapshot.value.tolist() == [4.25]
    assert [event.body["tick"] for event in probe.delivered if event.kind == "scores"] == [0, 1]


async def test_a_stop_scores_every_tick_that_readings_still_wait_for(bench: Bench) -> None:
    daemon = bench.make(lambda text: text + "\ntick: {lateness: 5s}\n")
    async with running(daemon):
        await bench.tick(daemon)
        for value in range(4):
            probe.sources["press"].give(a=value)
            bench.clock.advance(NS_PER_S // 4)
    assert daemon.pipeline is not None
    assert daemon.pipeline.intake.pending == 0
    assert daemon.pipeline.graph.value[0] == 3.0


async def test_a_stop_before_anything_has_begun_is_a_stop(bench: Bench) -> None:
    daemon = bench.make()
    daemon.stop()
    async with asyncio.timeout(10):
        assert await daemon.run() == 0
    assert probe.log == []


async def test_a_sink_under_start_fail_ends_the_daemon_in_order(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    daemon = bench.make(
        lambda text: text.replace("{type: probe, events", "{type: probe, start: fail, fault: down, events")
    )
    async with asyncio.timeout(10):
        assert await daemon.run() == 1
    assert "stopped because of a failure: sinks.desk: connection refused (start: fail)" in caplog.text
    assert "Traceback" not in caplog.text
    assert "desk opens" not in probe.log
    assert probe.log.count("press runs") == probe.log.count("press stops")


async def test_a_sink_that_hangs_is_named_at_the_deadline(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    daemon = bench.make(
        lambda text: text.replace("stop_timeout: 1s", "stop_timeout: 100ms").replace("events:", "fault: hangs, events:")
    )
    async with running(daemon, exit_code=1):
        await bench.tick(daemon)
    assert "not finished in time and cancelled: sink desk" in caplog.text


async def test_a_second_stop_waits_for_nobody(bench: Bench) -> None:
    daemon = bench.make(
        lambda text: text.replace("stop_timeout: 1s", "stop_timeout: 600s").replace("events:", "fault: hangs, events:")
    )
    async with running(daemon, exit_code=1):
        await bench.tick(daemon)
        daemon.stop()


async def test_a_failing_source_takes_nobody_down(bench: Bench) -> None:
    daemon = bench.make(lambda text: text.replace("}}\nsinks", "}, twin: {type: probe}}\nsinks"))
    async with running(daemon):
        await until(lambda: "twin runs" in probe.log)
        probe.sources["press"].give()
        probe.sources["press"].emit.offer("no batch at all")  # type: ignore[union-attr,arg-type]
        probe.sources["twin"].give(b=1.0)
        await bench.tick(daemon)
        assert daemon.pipeline is not None
        assert daemon.pipeline.graph.sensors == ("b",)
        assert daemon.metrics.rejected.labels("press", "malformed_batch").value == 1


# -- ticks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [365 * 86400, -365 * 86400, 0.3, -0.3])
async def test_the_beat_goes_on_when_the_wall_clock_jumps(bench: Bench, jump_s: float) -> None:
    async with running(bench.make()) as daemon:
        assert daemon.pipeline is not None
        await bench.tick(daemon, 5)
        bench.clock.set_wall_ns(bench.clock.wall_ns() + int(jump_s * NS_PER_S))
        seen: list[int] = []
        daemon.add_listener(lambda report: seen.append(bench.clock.monotonic_ns()))
        for _ in range(100):
            bench.clock.advance(NS_PER_S // 10)
            for _ in range(5):
                await asyncio.sleep(0)
        assert 9 <= len(seen) <= 11
        assert min(b - a for a, b in pairwise(seen)) >= NS_PER_S // 2
        assert daemon.metrics.ticks_missed.labels().value == 0


async def test_ticks_that_could_not_be_made_are_counted_and_not_made_up_for(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        await bench.tick(daemon)
        bench.clock.advance(60 * NS_PER_S)
        await until(lambda: daemon.metrics.ticks_missed.labels().value > 0)
        await until(lambda: daemon.metrics.ticks.labels().value == 3)  # that of second 2, late, and the present one
        assert daemon.metrics.ticks_missed.labels().value == 58
        await bench.tick(daemon)
        assert daemon.metrics.ticks.labels().value == 4


# -- models ----------------------------------------------------------------------------------------------------


async def test_models_are_swapped_refused_and_rolled_back_between_ticks(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    good = bundle_folder(bench.folder / "good", bundle_with(rewire("score", slightly_other), version="2.0.0").files)
    broken = bundle_folder(bench.folder / "broken", make_files(version="3.0.0") | {"model.onnx": b"\x00" * 100})
    blind = bundle_with(rewire("score", nan_when_value_is_below_minus_1000), version="4.0.0")
    blind_folder = bundle_folder(bench.folder / "blind", blind.files)
    async with running(bench.make()) as daemon:
        seen: list[int] = []
        daemon.add_listener(lambda report: seen.append(report.tick))
        for _ in range(30):
            probe.sources["press"].give(a=1.0, b=2.0)
            await bench.tick(daemon)
        answer = await daemon.control.swap_model(good, "test")
        assert (answer["model"]["version"], answer["state"]) == ("2.0.0", "rewarmed")
        assert answer["model"]["previous"]["version"] == "1.0.0"
        probe.sources["press"].give(a=1.0, b=2.0)
        await bench.tick(daemon)
        assert daemon.pipeline is not None
        assert daemon.pipeline.last_report is not None
        assert daemon.pipeline.last_report.scores.valid.all()
        for folder in (broken, blind_folder, bench.folder / "nowhere"):
            with pytest.raises(BundleError):
                await daemon.control.swap_model(folder, "test")
            assert daemon.control.model()["version"] == "2.0.0"
        assert daemon.metrics.model_swaps.labels("refused").value == 3
        assert caplog.text.count("model swap refused: ") == 3
        answer = await daemon.control.rollback_model("test")
        assert answer["model"]["version"] == "1.0.0"
        await bench.tick(daemon, 2)
        assert seen == list(range(33))
        audited = await daemon.control.audit(10)
    assert [(one["action"], one["by"], one["model"].split()[-1]) for one in audited] == [
        ("rollback_model", "test", "1.0.0"),
        ("swap_model", "test", "2.0.0"),
    ]
    told = [event.body["message"] for event in probe.delivered if event.body.get("what") == "model"]
    assert ["swapped" in told[0], "rolled back" in told[1]] == [True, True]


async def test_without_an_audit_log_no_model_is_swapped_but_the_configuration_is_read(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    good = bundle_folder(bench.folder / "good", make_files(version="2.0.0"))
    (bench.folder / "data" / "audit.jsonl").mkdir(parents=True)
    async with running(bench.make()) as daemon:
        with pytest.raises(StoreError, match=r"audit\.jsonl: cannot be written: .*; nothing was done"):
            await daemon.control.swap_model(good, "test")
        assert daemon.control.model()["version"] == "1.0.0"
        bench.write(lambda text: text + "graph: {window: 300}\n")
        assert (await daemon.control.reload("test"))["restart_required"] == ["graph"]
        assert daemon.metrics.store_failures.labels("audit").value == 1
    assert "reload by test is not in the audit log" in caplog.text


@pytest.mark.parametrize("version", ["1.0.0", "1.0.1"])
async def test_the_same_network_again_carries_its_state_over_as_it_is_at_the_exchange(
    bench: Bench, version: str
) -> None:
    again = bundle_folder(bench.folder / "again", make_files(version=version))
    async with running(bench.make()) as daemon:
        assert daemon.pipeline is not None
        for _ in range(25):
            probe.sources["press"].give(a=1.0)
            await bench.tick(daemon)
        before = daemon.pipeline.detector.export_state()
        answer = await daemon.control.swap_model(again, "test")
        assert answer["state"] == "carried"
        after = daemon.pipeline.detector.export_state()
        assert {name: array.tolist() for name, array in after.items()} == {
            name: array.tolist() for name, array in before.items()
        }


async def test_status_events_are_kept_in_the_history_and_survive_a_restart(bench: Bench) -> None:
    def with_history(text: str) -> str:
        return text.replace("history: {enabled: false}", "history: {enabled: true}")

    async with running(bench.make(with_history)) as daemon:
        assert daemon.pipeline is not None
        daemon.pipeline.notice("proof", "said once")
        await bench.tick(daemon, 2)
    probe.log.clear()
    async with running(bench.make(with_history)) as daemon:
        assert daemon.history is not None
        kept = [event for event in await daemon.history.events() if event.get("what") == "proof"]
    assert [event["message"] for event in kept] == ["said once"]


async def test_a_site_model_of_another_plant_is_refused(bench: Bench) -> None:
    foreign = bundle_folder(bench.folder / "foreign", make_files(sensors=("elsewhere",), version="9.0.0"))
    async with running(bench.make()) as daemon:
        probe.sources["press"].give(a=1.0, b=2.0)
        await bench.tick(daemon, 2)
        with pytest.raises(BundleError, match="none of the 2 sensors here, such as 'a'"):
            await daemon.control.swap_model(foreign, "test")
        assert daemon.control.model()["version"] == "1.0.0"


async def test_a_model_swapped_in_outlives_a_configured_one_that_is_gone(bench: Bench) -> None:
    good = bundle_folder(bench.folder / "good", make_files(version="2.0.0"))
    async with running(bench.make()) as daemon:
        await daemon.control.swap_model(good, "test")
    (bench.tiny / "model.onnx").write_bytes(b"damaged")
    probe.log.clear()
    async with running(bench.make()) as daemon:
        assert daemon.control.model()["version"] == "2.0.0"


@pytest.mark.parametrize("mark", ["self-tested", "configured"])
async def test_a_damaged_mark_of_the_model_costs_a_test_and_no_start(
    bench: Bench, caplog: pytest.LogCaptureFixture, mark: str
) -> None:
    await bench.make().open()
    marked = bench.folder / "data" / "models" / mark
    content = marked.read_bytes()
    marked.write_bytes(b"\xb5" + content[1:])
    daemon = bench.make()
    await daemon.open()
    assert daemon.model is not None
    assert daemon.model.bundle is not None
    assert marked.read_bytes() == content
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_orders_beyond_what_incidents_can_be_compared_with_in_time_are_refused(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        await bench.tick(daemon)
        many = tuple(f"pump.{number}.*" for number in range(1_000))
        first = await daemon.control.suppress(many, (), 60.0, "", "kim")
        await daemon.control.suppress(many[1:], ("hall",), 60.0, "", "kim")
        with pytest.raises(ControlError, match="orders with 2000 patterns are in force, expected at most 2000 with"):
            await daemon.control.suppress((), ("hall",), 60.0, "", "kim")
        await daemon.control.lift_order(first["id"], "kim")
        await daemon.control.suppress((), ("hall",), 60.0, "", "kim")


async def test_nothing_can_be_changed_before_the_start(bench: Bench) -> None:
    daemon = bench.make()
    with pytest.raises(ControlError, match="still starting"):
        await daemon.control.reload("test")
    with pytest.raises(ControlError, match="still starting"):
        await daemon.control.swap_model(bench.tiny, "test")
    assert daemon.overdue_s() < 0


async def test_a_source_that_waits_to_be_tried_again_can_be_exchanged(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        probe.sources["press"].fail()
        await until(lambda: daemon.runners.sources["press"].context.state.startswith("disconnected"))
        bench.write(lambda text: text.replace("press: {type: probe", "press: {type: probe, prefix: x."))
        await daemon.control.reload("test")
        await until(lambda: probe.log.count("press runs") == 2)
        assert daemon.control.status()["sources"]["press"]["state"] == "connected"


# -- reload ----------------------------------------------------------------------------------------------------


async def test_a_changed_sink_delivers_what_the_old_one_could_not(bench: Bench) -> None:
    daemon = bench.make(lambda text: text.replace("events:", "retry_max: 1h, fault: down, events:"))
    async with running(daemon):
        await bench.tick(daemon, 3)
        bench.write()
        result = await daemon.control.reload("test")
        assert result["sinks"]["started"] == ["desk"]
        await bench.tick(daemon)
        await until(lambda: len(probe.delivered) >= 4)
    ticks = [event.body["tick"] for event in probe.delivered if event.kind == "scores"]
    assert sorted(ticks) == [0, 1, 2, 3]  # those that waited for long may come after the last


async def test_what_a_removed_sink_had_not_taken_waits_for_one_of_its_name(bench: Bench) -> None:
    sink = "desk: {type: probe, events: [incident, status, scores]}"
    daemon = bench.make(lambda text: text.replace(sink, sink.replace("events", "retry_max: 1h, fault: down, events")))
    async with running(daemon):
        await bench.tick(daemon, 3)
        bench.write(lambda text: text.replace(sink, sink.replace("desk", "other")))
        await daemon.control.reload("test")
        assert list(daemon.runners.sinks) == ["other"]
    kept = bench.folder / "data" / "outbox" / "desk"
    assert list(kept.glob("*.events"))
    probe.log.clear()
    probe.delivered.clear()
    async with running(bench.make()) as daemon:
        await until(lambda: len(probe.delivered) >= 3)
    assert [event.body["tick"] for event in probe.delivered if event.replayed] == [0, 1, 2]


async def test_the_log_tells_a_reload_and_an_order_in_words(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async with running(bench.make()) as daemon:
        with caplog.at_level(logging.INFO, "edge_agent.daemon"):
            await daemon.control.reload("test")
            added = "sinks: {log: {type: probe}, desk: "
            bench.write(lambda text: text.replace("sinks: {desk: ", added) + "graph: {window: 300}\n")
            await daemon.control.reload("test")
            order = await daemon.control.suppress(("pump.*", "tank 1"), (), 3600.0, 'a "test",\nreally', "kim")
    told = [record.message for record in caplog.records]
    assert "configuration reloaded: nothing has changed" in told
    assert "configuration reloaded: sinks started log, not before a restart: graph" in told
    assert (
        f'suppress by kim: order {order["id"]}, sensors pump.* "tank 1", until {order["until"]}, '
        'note "a \\"test\\",\\nreally"'
    ) in told


async def test_what_needs_a_restart_is_not_in_use_after_a_reload(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        bench.write(lambda text: text + "\ntick: {period: 5s}\ngraph: {edges: [[a, b]], learn: false}\n")
        for _ in range(2):
            result = await daemon.control.reload("test")
            assert result["restart_required"][0] == "tick"
        assert daemon.config.tick.period == 1.0
        probe.sources["press"].give(a=1.0, b=2.0)
        await bench.tick(daemon)
        assert daemon.pipeline is not None
        assert [edge[:2] for edge in daemon.pipeline.graph.edges()] == [("a", "b"), ("b", "a")]


async def test_a_changed_source_is_exchanged_and_the_readings_of_the_old_one_stay(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        probe.sources["press"].give(a=1.0)
        await bench.tick(daemon)
        bench.write(lambda text: text.replace("press: {type: probe", "press: {type: probe, prefix: x."))
        await daemon.control.reload("test")
        await until(lambda: probe.log.count("press runs") == 2)
        probe.sources["press"].give(a=2.0)
        await bench.tick(daemon)
        assert daemon.pipeline is not None
        assert daemon.pipeline.graph.sensors == ("a", "x.a")


async def test_uplinks_are_exchanged_by_a_reload(bench: Bench) -> None:
    ota = "ota: {repository: 'file:///nowhere', root: root.json}\n"
    daemon = bench.make(lambda text: text + ota + "uplinks: {a: {type: probe}, b: {type: probe, word: x}}\n")
    async with running(daemon):
        await until(lambda: {"a runs", "bx runs"} <= set(probe.log))
        assert daemon.control.status()["uplinks"]["a"] == {"type": "probe", "state": "connected"}
        bench.write(lambda text: text + ota + "uplinks: {b: {type: probe, word: y}, c: {type: probe, word: z}}\n")
        result = await daemon.control.reload("test")
        assert result["uplinks"] == {"started": ["c", "b"], "stopped": ["a"]}
        await until(lambda: {"a stops", "bx stops", "by runs", "cz runs"} <= set(probe.log))
        assert "a runs" in probe.log
        assert probe.log.count("a runs") == 1
        await until(lambda: {name for name, _ in probe.told} >= {"by", "cz"})
    assert {"by stops", "cz stops"} <= set(probe.log)


async def test_uplinks_wait_for_a_restart_that_brings_updates(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        ota = "ota: {repository: 'file:///nowhere', root: root.json}\n"
        bench.write(lambda text: text + ota + "uplinks: {a: {type: probe}}\n")
        result = await daemon.control.reload("test")
        assert result["restart_required"] == ["ota"]
        assert result["uplinks"] == {"started": [], "stopped": []}
        assert daemon.control.status()["uplinks"] == {}


async def test_maintenance_is_planned_anew_by_a_reload(bench: Bench) -> None:
    window = "{name: now, begins: '* * * * *', duration: 2m}"
    async with running(bench.make()) as daemon:
        await bench.tick(daemon)
        bench.write(lambda text: text + f"\ndecision: {{maintenance: [{window}]}}\n")
        result = await daemon.control.reload("test")
        assert (result["applied"], result["restart_required"]) == (["decision"], [])
        await bench.tick(daemon, 61)
        assert daemon.control.status()["detection"]["maintenance"] is True
        bench.write(lambda text: text + f"\ndecision: {{maintenance: [{window}], detect_within: 99s}}\n")
        result = await daemon.control.reload("test")
        assert (result["applied"], result["restart_required"]) == ([], ["decision"])
        assert daemon.config.decision.detect_within == 60.0
        bench.write()
        await daemon.control.reload("test")
        await bench.tick(daemon)
        assert daemon.control.status()["detection"]["maintenance"] is False


async def test_rules_are_exchanged_by_a_reload_and_hold_over_a_restart(bench: Bench) -> None:
    def states() -> list[tuple[str, str]]:
        bodies = [event.body for event in probe.delivered if event.kind == "incident"]
        return [(str(body["state"]), str(body["severity"])) for body in bodies if body["kind"] == "rule"]

    rule = "\nrules: {high: {sensors: [a], limit: {above: 5}, severity: %s}}\n"
    async with running(bench.make()) as daemon:
        probe.sources["press"].give(a=6.0)
        await bench.tick(daemon)
        bench.write(lambda text: text + rule % "high")
        assert (await daemon.control.reload("test"))["applied"] == ["rules"]
        await bench.tick(daemon)
        await until(lambda: states() == [("open", "high")])
        bench.write(lambda text: text + rule.replace("limit", "limt") % "high")
        with pytest.raises(ConfigError, match="did you mean 'limit'"):
            await daemon.control.reload("test")
        await bench.tick(daemon)
        assert states() == [("open", "high")]
    probe.log.clear()
    async with running(bench.make(lambda text: text + rule % "low")) as daemon:
        probe.sources["press"].give(a=6.0)
        await bench.tick(daemon, 3)
        await until(lambda: len(states()) > 1)
        assert daemon.control.status()["rules"]["holding"] == ["high"]
    assert states() == [("open", "high"), ("updated", "high")]


async def test_incidents_that_looked_alike_are_told_and_looked_for_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bodies() -> list[dict[str, Any]]:
        return [event.body for event in probe.delivered if event.kind == "incident"]

    looked: list[str] = []
    similar = History.similar
    monkeypatch.setattr(History, "similar", lambda self, body: looked.append(body["id"]) or similar(self, body))
    more = "\nrules: {high: {sensors: [a], limit: {above: 5}}}\ndecision: {cooldown: 1s, close_after: 1s}\n"
    daemon = bench.make(lambda text: text.replace("history: {enabled: false}", "history: {}") + more)
    async with running(daemon):
        for value, count in ((6.0, 1), (1.0, 2), (6.0, 3)):
            for _ in range(5):
                probe.sources["press"].give(a=value)
                await bench.tick(daemon)
            await until(lambda count=count: len(bodies()) == count)  # type: ignore[misc]
    first, _, again = bodies()
    assert [one["id"] for one in again["similar"]] == [first["id"]]
    assert looked == [body["id"] for body in bodies()]


async def test_a_broken_configuration_changes_nothing(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        bench.write(lambda text: text + "\ntick: {perod: 1s}\n")
        with pytest.raises(ConfigError, match="period"):
            await daemon.control.reload("test")
        assert probe.log == ["desk opens", "press runs"]


def desk_hangs(text: str) -> str:
    return text.replace("events:", "fault: hangs, events:")


def desk_gone(text: str) -> str:
    """Another sink and one more source instead of a sink that takes its time to stop, and a rule."""
    text = text.replace("sinks: {desk", "sinks: {other").replace("}}\nsinks", "}, late: {type: probe}}\nsinks")
    return text + "\nrules: {high: {sensors: [a], limit: {above: 5}}}\n"


async def test_a_reload_is_made_as_a_whole_though_nobody_waits_for_it(bench: Bench) -> None:
    async with running(bench.make(desk_hangs)) as daemon:
        await bench.tick(daemon)
        bench.write(desk_gone)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await daemon.control.reload("test")
        assert "late" not in daemon.runners.sources
        result = await daemon.control.reload("test")  # after the first one
        assert result["sources"]["started"] == result["sinks"]["started"] == result["applied"] == []
        assert (list(daemon.runners.sinks), list(daemon.runners.sources)) == (["other"], ["press", "late"])
        assert list(daemon.config.rules) == ["high"]
        await until(lambda: "late runs" in probe.log)


async def test_a_reload_that_is_cut_short_is_done_by_the_next_one(bench: Bench) -> None:
    async with running(bench.make(desk_hangs)) as daemon:
        await bench.tick(daemon)
        bench.write(desk_gone)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await apply_config(daemon)
        result = await daemon.control.reload("test")
        assert result["sinks"] == {"started": ["other"], "stopped": ["desk"]}
        assert (result["sources"]["started"], result["applied"]) == (["late"], ["rules"])
        await until(lambda: "late runs" in probe.log and "other opens" in probe.log)


async def test_a_stop_in_the_middle_of_a_reload_loses_no_events(bench: Bench) -> None:
    daemon = bench.make(lambda text: text.replace("events:", "retry_max: 1h, fault: down, events:"))
    async with running(daemon):
        await bench.tick(daemon, 3)
        bench.write(lambda text: desk_gone(text).replace("press: {type: probe", "press: {type: probe, prefix: x."))
        reload = asyncio.create_task(daemon.control.reload("test"))
        await until(lambda: "press stops" in probe.log)
        daemon.stop()
        await reload
    probe.log.clear()
    async with running(bench.make()) as daemon:
        await until(lambda: len(probe.delivered) >= 3)
    assert [event.body["tick"] for event in probe.delivered if event.replayed] == [0, 1, 2]


async def test_nothing_is_started_any_more_once_the_daemon_stops(bench: Bench) -> None:
    daemon = bench.make()
    task = asyncio.create_task(daemon.run())
    await until(lambda: task.done() or "press runs" in probe.log)
    bench.write(lambda text: text.replace("}}\nsinks", "}, late: {type: probe}}\nsinks"))
    daemon.stop()
    await daemon.control.reload("test")
    async with asyncio.timeout(10):
        assert await task == 0
    assert "late runs" not in probe.log


# -- learned state ---------------------------------------------------------------------------------------------


async def test_what_was_learned_is_there_after_a_restart(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        for value in range(25):
            probe.sources["press"].give(a=float(value))
            await bench.tick(daemon)
    probe.log.clear()
    async with running(bench.make()) as daemon:
        probe.sources["press"].give(a=25.0)
        await bench.tick(daemon)
        assert daemon.pipeline is not None
        assert daemon.pipeline.last_report is not None
        assert daemon.pipeline.last_report.scores.valid.tolist() == [False]  # how long it was off is not known
        for value in range(26, 26 + SETTLING_TICKS):
            probe.sources["press"].give(a=float(value))
            await bench.tick(daemon)
        assert daemon.pipeline.last_report.scores.valid.tolist() == [True]


async def test_a_warm_up_that_has_just_ended_survives_a_power_cut(bench: Bench) -> None:
    learned, kept = bench.folder / "data/learned.npz", bench.folder / "kept.npz"
    short = CONFIG + "decision: {{calibration_ticks: 100}}\n"
    bench.path.write_text(short.format(folder=bench.folder, bundle=bench.tiny))
    daemon = Daemon(parse_config(bench.path.read_text(), bench.path, {}), bench.clock, seed=0)
    async with running(daemon):
        assert daemon.pipeline is not None
        calibration = daemon.pipeline.decider.calibration
        for tick in range(200):
            probe.sources["press"].give(a=float(tick % 7), b=float(tick % 5))
            await bench.tick(daemon)
            if calibration.ready:
                break
            assert not learned.exists()
        await until(learned.exists)
        kept.write_bytes(learned.read_bytes())
    learned.write_bytes(kept.read_bytes())  # as a power cut leaves it: what is saved at the stop is not there
    again = Daemon(parse_config(bench.path.read_text(), bench.path, {}), bench.clock, seed=0)
    await again.open()
    assert again.pipeline is not None
    assert again.pipeline.decider.calibration.ready


async def test_the_fallback_does_not_replace_what_the_model_had_learned(bench: Bench) -> None:
    async with running(bench.make()) as daemon:
        assert daemon.pipeline is not None
        probe.sources["press"].give(a=1.0)
        await bench.tick(daemon)
        await daemon.save_learned()
        daemon.pipeline.replace_detector(StatisticalDetector(), None)
        probe.sources["press"].give(b=1.0)
        await bench.tick(daemon)
    probe.log.clear()
    async with running(bench.make()) as daemon:
        assert daemon.pipeline is not None
        assert daemon.pipeline.graph.sensors == ("a",)
