"""A configuration over the air in a running daemon: all of it or none of it, kept over reloads and starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import probe_adapters as probe
import pytest

from edge_agent.config import Overlay
from edge_agent.daemon.host import AgentHost
from edge_agent.daemon.overlay import put_overlay_in_force
from edge_agent.decision.lifecycle import Lifecycle
from edge_agent.decision.options import DecisionOptions
from edge_agent.errors import ConfigError, OtaError, StoreError
from edge_agent.ota.ring import Limits, Trial
from edge_agent.ota.state import InForce
from edge_agent.ota.watch import Watch


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


LABEL = "config of release spring"
EVERYTHING = """\
sensors: {a: {max: 20}, b: {unit: bar}}
graph: {edges: [[a, b]]}
decision: {false_alarms: 2 per day, close_after: 7s, quality_after: 3s, contributors: 2, cooldown: 1m, flap_after: 9,
  maintenance: [{name: sunday, begins: '0 6 * * SUN', duration: 1h}]}
rules: {high: null, low: {sensors: [a], limit: {below: 1}}}
patterns: {enabled: false}
drift: {settled_blocks: 4}
companions: {remember: 900}
sources: {press: {prefix: x.}}
sinks: {desk: {severity: high}}
"""


def state(daemon: Any) -> dict[str, Any]:
    """What the parts of the daemon work with."""
    pipeline = daemon.pipeline
    return {
        "config": daemon.config,
        "options": [
            getattr(pipeline.options, name)
            for name in ("tick", "intake", "graph", "decision", "drift", "companions", "rules", "patterns", "edges")
        ],
        "max": pipeline.intake.limits.max.tolist(),
        "rules": dict(pipeline.rules.rules.options),
        "patterns": pipeline.patterns.library,
        "rate": pipeline.decider.budget.rate,
        "drift": pipeline.drift is not None,
        "edges": [edge for edge in pipeline.graph.edges() if edge[2] == "declared"],
        "sources": {name: runner.options for name, runner in daemon.runners.sources.items()},
        "sinks": {name: runner.options for name, runner in daemon.runners.sinks.items()},
    }


def messages() -> list[str]:
    return [str(event.body["message"]) for event in probe.delivered if event.body.get("what") == "config"]


async def test_of_many_mistakes_the_first_are_told(gateway: Any) -> None:
    async with gateway.running() as daemon:
        rules = "rules:\n" + "".join(f"  r{number}: {{when: a >}}\n" for number in range(500))
        with pytest.raises(ConfigError) as caught:
            await put_overlay_in_force(daemon, gateway.release(rules), LABEL)
        first, *_, last = caught.value.problems
        assert (len(caught.value.problems), last) == (11, f"{LABEL}: 490 more mistakes")
        assert first.startswith(f"{LABEL}: line 2: rules.r0.when")


async def test_everything_that_may_come_is_put_in_force_and_taken_back_without_a_restart(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 3, a=1.0, b=2.0)
        before = state(daemon)
        done = await put_overlay_in_force(daemon, gateway.release(EVERYTHING), LABEL)
        assert done["applied"] == ["sensors", "graph", "companions", "decision", "drift", "rules", "patterns"]
        assert (done["sources"]["started"], done["sinks"]["started"]) == (["press"], ["desk"])
        assert done["config"] == daemon.config.layers.overlay.sha256
        assert done["overruled"] == ["sensors.a.max", "rules.high"]
        assert done["less_watchful"] == [
            "rules.high is gone",
            "sensors.a has a wider max",
            "decision.maintenance has sunday",
            "patterns is off",
        ]
        now = state(daemon)
        assert now["max"] == [20.0, float("inf")]
        assert list(now["rules"]) == ["low"]
        assert now["rate"] == pytest.approx(2 / 86_400)
        assert now["options"][3] == daemon.config.decision
        assert gateway.overlay.read_text() == EVERYTHING
        assert (await put_overlay_in_force(daemon, None))["config"] is None
        assert state(daemon) == before
        assert not gateway.overlay.exists()
        await gateway.tick(daemon)
        await until(lambda: len(messages()) == 2)
    told = messages()
    assert told[0].startswith(f"{LABEL} is in force: sources started press, sinks started desk, taken into use: ")
    assert 'less watchful: "rules.high is gone"' in told[0]


async def test_putting_in_force_what_is_changes_nothing(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 1, a=1.0)
        for path in (gateway.release(EVERYTHING), gateway.overlay):
            await put_overlay_in_force(daemon, path, LABEL)
        once = state(daemon)
        runs = probe.log.count("press runs")
        done = await put_overlay_in_force(daemon, gateway.overlay, LABEL)
        assert (done["applied"], done["sources"]["started"], done["less_watchful"]) == ([], [], [])
        assert state(daemon) == once
        assert probe.log.count("press runs") == runs


async def test_it_is_in_force_at_the_next_start(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release("rules: {high: null}"), LABEL)
    probe.log.clear()
    async with gateway.running() as daemon:
        assert daemon.config.rules == {}
        assert daemon.config.layers.overlay.content == b"rules: {high: null}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: {high: {limit: {above: x}}}", f"{LABEL}: line 1: rules.high.limit.above: got 'x', expected a number"),
        ("api: {}", f"{LABEL}: line 1: api: can never come over the air"),
        ("rules: [", f"{LABEL}: line 1: not YAML"),
    ],
)
async def test_one_with_mistakes_changes_nothing(gateway: Any, text: str, said: str) -> None:
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release("sensors: {a: {max: 11}}"))
        before = state(daemon)
        with pytest.raises(ConfigError) as caught:
            await put_overlay_in_force(daemon, gateway.release(text), LABEL)
        assert str(caught.value).startswith(said)
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            await put_overlay_in_force(daemon, gateway.folder / "none.yaml", LABEL)
        assert state(daemon) == before
        assert gateway.overlay.read_text() == "sensors: {a: {max: 11}}"
        assert daemon.metrics.config_reloads.labels("refused").value == 2


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("decision: {detect_within: 30s}", "decision.detect_within"),
        ("decision: {calibration_ticks: 900, close_after: 5s}", "decision.calibration_ticks"),
        ("graph: {learn: false, edges: [[a, b]]}", "graph.learn"),
        ("companions: {enabled: false}", "companions.enabled"),
    ],
)
async def test_what_needs_a_restart_is_refused_as_a_whole(gateway: Any, text: str, option: str) -> None:
    async with gateway.running() as daemon:
        before = state(daemon)
        with pytest.raises(OtaError, match=f"{LABEL}: {option} cannot change while the agent runs") as caught:
            await put_overlay_in_force(daemon, gateway.release(text), LABEL)
        assert caught.value.reason == "restart_required"
        assert state(daemon) == before
        assert not gateway.overlay.exists()


class FailsOnce(Lifecycle):
    """Cannot be reconfigured the first time: by then connections and half of the pipeline have changed."""

    def reconfigure(self, options: DecisionOptions) -> None:
        self.__class__ = Lifecycle  # type: ignore[assignment]
        raise RuntimeError("out of order")


async def test_a_failure_in_the_middle_brings_the_old_one_back(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release("sensors: {a: {max: 11}}"))
        await gateway.tick(daemon, 2, a=1.0)
        before = state(daemon)
        daemon.pipeline.lifecycle.__class__ = FailsOnce
        with pytest.raises(ConfigError, match=r"could not be taken into use: RuntimeError\('out of order'\)"):
            await put_overlay_in_force(daemon, gateway.release(EVERYTHING), LABEL)
        assert state(daemon) == before
        assert gateway.overlay.read_text() == "sensors: {a: {max: 11}}"
        await until(lambda: daemon.runners.sources["press"].context.state == "connected")


async def test_being_cancelled_in_the_middle_brings_the_old_one_back(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 2, a=1.0)
        before = state(daemon)
        changing = asyncio.create_task(put_overlay_in_force(daemon, gateway.release(EVERYTHING), LABEL))
        while "press stops" not in probe.log:
            await asyncio.sleep(0)
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        assert state(daemon) == before
        assert not gateway.overlay.exists()
        await until(lambda: probe.log.count("press runs") == 2)
        await gateway.tick(daemon, 1, a=1.0)


async def test_a_disk_that_takes_nothing_changes_nothing(gateway: Any) -> None:
    async with gateway.running() as daemon:
        before = state(daemon)
        gateway.overlay.mkdir(parents=True)
        with pytest.raises(StoreError, match=r"config\.yaml: cannot be written"):
            await put_overlay_in_force(daemon, gateway.release("rules: {high: null}"), LABEL)
        assert state(daemon) == before


async def test_drift_knows_what_is_usual_as_long_as_blocks_are_as_long(gateway: Any) -> None:
    gateway.path.write_text(gateway.path.read_text() + "drift: {block: 10s}\n")
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 25, a=5.0, b=1.0)
        counts = []
        for text in ("drift: {settled_blocks: 5}", "drift: {enabled: false}", "{}", "drift: {block: 20s}"):
            await put_overlay_in_force(daemon, gateway.release(text), LABEL)
            drift = daemon.pipeline.drift
            counts.append(None if drift is None else drift.export()["count"].max(initial=0))
            await gateway.tick(daemon, 25, a=5.0, b=1.0)
        assert counts == [2, None, 0, 0]
        assert daemon.control.status()["drift"]["blocks"] == 1


# -- beside changes of the gateway's own file ------------------------------------------------------------------


async def test_a_reload_keeps_it_and_tells_what_has_no_effect(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release("sensors: {a: {max: 11}}"), LABEL)
        own = gateway.path.read_text()
        gateway.path.write_text(own.replace("max: 10", "max: 12, min: 0"))
        result = await daemon.control.reload("test")
        assert result["applied"] == ["sensors"]
        assert result["overruled"] == ["sensors.a.max"]
        assert (daemon.config.sensors["a"].min, daemon.config.sensors["a"].max) == (0, 11)
        await put_overlay_in_force(daemon, None)
        assert daemon.config.sensors["a"].max == 12


async def test_a_reload_that_it_does_not_fit_is_refused_and_says_so(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release("sensors: {a: {max: 11}}"), LABEL)
        before = state(daemon)
        gateway.path.write_text(gateway.path.read_text().replace("max: 10", "max: 40, min: 30"))
        with pytest.raises(ConfigError) as caught:
            await daemon.control.reload("test")
        assert str(caught.value) == (
            "reload refused, the old configuration stays in use: "
            f"{LABEL}: line 1: sensors.a: min is 30 and max is 11, expected min below max"
        )
        assert state(daemon) == before


async def test_what_is_not_finished_in_the_file_does_not_keep_a_release_from_being_taken_back(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release("sensors: {a: {max: 11}}"), LABEL)
        gateway.path.write_text("half of a fi")
        await put_overlay_in_force(daemon, None)
        assert daemon.config.sensors["a"].max == 10


async def test_what_waits_for_a_restart_is_not_the_release_s_doing(gateway: Any) -> None:
    async with gateway.running() as daemon:
        gateway.path.write_text(gateway.path.read_text() + "tick: {period: 2s}\ndecision: {detect_within: 30s}\n")
        assert (await daemon.control.reload("test"))["restart_required"] == ["tick", "decision"]
        await put_overlay_in_force(daemon, gateway.release("sensors: {a: {max: 11}}"), LABEL)
        assert (daemon.config.sensors["a"].max, daemon.config.tick.period) == (11, 1.0)


async def test_going_back_is_not_refused_because_of_what_needs_a_restart(gateway: Any) -> None:
    same = "decision: {detect_within: 60s}"  # as it is by default
    async with gateway.running() as daemon:
        await put_overlay_in_force(daemon, gateway.release(same), LABEL)
        gateway.path.write_text(gateway.path.read_text() + "decision: {detect_within: 30s}\n")
        await daemon.control.reload("test")
        for overlay in (None, gateway.release(same), gateway.release("rules: {high: null}"), gateway.release(same)):
            await put_overlay_in_force(daemon, overlay, LABEL)
            assert daemon.config.decision.detect_within == 60


async def test_one_that_fits_no_more_is_left_out_at_the_start_and_told(gateway: Any) -> None:
    gateway.overlay.parent.mkdir(parents=True)
    gateway.overlay.write_text("sensors: {a: {min: 10}}")
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 1, a=1.0)
        assert daemon.config.layers.left_out == (
            "config over the air: line 1: sensors.a: min is 10 and max is 10, expected min below max"
        )
        gateway.path.write_text(gateway.path.read_text().replace("max: 10", "max: 12"))
        await daemon.control.reload("test")  # now it fits
        assert daemon.config.layers.left_out is None
        assert (daemon.config.sensors["a"].min, daemon.config.sensors["a"].max) == (10, 12)
    [told] = messages()
    assert told.endswith("expected min below max; left out, the gateway's own file is in use")


# -- health ----------------------------------------------------------------------------------------------------


async def test_readings_that_do_not_count_any_more_are_a_trouble_until_it_is_taken_back(gateway: Any) -> None:
    readings = dict.fromkeys("abcdefgh", 5.0)
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 5, **readings)
        assert daemon.config_health.troubles() == []
        await put_overlay_in_force(daemon, gateway.release("sensors: {'*': {max: 1}, a: {max: 1}}"), LABEL)
        await gateway.tick(daemon, 3, **readings)
        assert daemon.config_health.troubles() == [
            "got usable readings of 0 sensors, expected at least 7 (8 before)",
        ]
        await put_overlay_in_force(daemon, None)
        await gateway.tick(daemon, 2, **readings)
        assert daemon.config_health.troubles() == []


async def test_rules_that_fire_all_the_time_and_rules_of_nothing_are_troubles(gateway: Any) -> None:
    rules = ", ".join(f"r{i}: {{sensors: [a], limit: {{above: {i}}}}}" for i in range(5))
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 5, a=6.0)
        overlay = f"rules: {{{rules}, blind: {{when: nothing.here > 3}}}}"
        await put_overlay_in_force(daemon, gateway.release(overlay), LABEL)
        await gateway.tick(daemon, 3, a=6.0)
        assert daemon.config_health.troubles() == [
            "rules of which nothing can be said: blind",
            "got 5 incidents in 3 ticks, expected at most 3.0",
        ]
        await gateway.tick(daemon, 3, a=6.0)
        assert daemon.config_health.troubles()[1] == "got 5 incidents in 3 ticks, expected at most 3.0"


async def test_how_many_incidents_are_too_many_is_said_by_the_release(gateway: Any) -> None:
    rules = ", ".join(f"r{i}: {{sensors: [a], limit: {{above: {i}}}}}" for i in range(5))
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 5, a=6.0)
        await put_overlay_in_force(daemon, gateway.release(f"rules: {{{rules}}}"), LABEL)
        daemon.updates = SimpleNamespace(release=SimpleNamespace(trial=Trial(alarm_extra=4.5)), brief=dict)
        await gateway.tick(daemon, 3, a=6.0)
        assert daemon.config_health.troubles() == ["got 5 incidents in 3 ticks, expected at most 4.5"]
        daemon.updates.release.trial = Trial(alarm_extra=5)
        assert daemon.config_health.troubles() == []
        daemon.updates = None


async def test_a_source_that_does_not_come_back_is_a_trouble(gateway: Any) -> None:
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 2, a=5.0)
        await put_overlay_in_force(daemon, gateway.release("sources: {press: {prefix: x.}}"), LABEL)
        await until(lambda: probe.log.count("press runs") == 2)
        assert daemon.config_health.troubles() == []
        probe.sources["press"].fail()
        await until(lambda: daemon.config_health.troubles() == ["sources that were connected are not: press"])


# -- a trial ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "rules: null\nsensors: {a: {max: 1}, '*': {max: 1}}",
            "got usable readings of 0 sensors, expected at least 4 (4 before)",
        ),
        (
            "rules: {" + ", ".join(f"r{i}: {{sensors: [a], limit: {{above: {i}}}}}" for i in range(5)) + "}",
            "got 5 incidents in ",
        ),
    ],
)
async def test_a_release_that_makes_the_agent_unhealthy_fails_its_trial_and_is_taken_back(
    gateway: Any, text: str, said: str
) -> None:
    release = gateway.release(text)
    wanted = InForce(config=Overlay(release.read_bytes()).sha256)
    readings = {"a": 6.0, "b": 6.0, "c": 6.0, "d": 6.0}
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 20, **readings)
        host = AgentHost(daemon, ())
        own, before = state(daemon), host.vitals()
        await host.put_in_force(wanted, None, release, "release spring on trial")
        assert host.in_force.config == wanted.config
        watch = Watch(Trial(seconds=600, ticks=500), Limits(), before, host.vitals(), gateway.clock.monotonic_ns())
        failure = None
        for _ in range(90):
            await gateway.tick(daemon, 1, **readings)
            failure = watch.failure(host.vitals(), gateway.clock.monotonic_ns())
            if failure is not None:
                break
        assert failure is not None
        assert failure[0] == "unhealthy"
        assert failure[1].startswith(f"since the change: {said}")
        await host.put_in_force(InForce(), None, None, "taken back")
        assert state(daemon) == own
        assert not gateway.overlay.exists()


async def test_a_release_that_does_no_harm_passes_its_trial(gateway: Any) -> None:
    release = gateway.release("decision: {false_alarms: 2 per day}\nrules: {low: {sensors: [a], limit: {below: 1}}}")
    wanted = InForce(config=Overlay(release.read_bytes()).sha256)
    async with gateway.running() as daemon:
        await gateway.tick(daemon, 20, a=6.0)
        host = AgentHost(daemon, ())
        before = host.vitals()
        await host.put_in_force(wanted, None, release, "release spring on trial")
        watch = Watch(Trial(seconds=60, ticks=50), Limits(), before, host.vitals(), gateway.clock.monotonic_ns())
        for _ in range(70):
            await gateway.tick(daemon, 1, a=6.0)
            assert watch.failure(host.vitals(), gateway.clock.monotonic_ns()) is None
        assert watch.passed(host.vitals(), gateway.clock.monotonic_ns())


async def test_what_a_trial_refuses_names_its_release(gateway: Any) -> None:
    release = gateway.release("rules: {high: {limit: {above: x}}}")
    async with gateway.running() as daemon:
        host = AgentHost(daemon, ())
        with pytest.raises(ConfigError, match=r"config of release spring on trial: line 1: rules\.high\.limit\.above"):
            await host.put_in_force(InForce(config="0" * 64), None, release, "release spring on trial")
        assert host.in_force == InForce()
