"""Rules in the pipeline: from readings to what people are told, over reload and restart."""

from __future__ import annotations

import random

import numpy as np

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.inference import StatisticalDetector
from edge_agent.intake.options import SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, TickReport, states_by_name
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.rules.options import RuleOptions
from edge_agent.sample import Batch
from edge_agent.verdict import IncidentKind, Severity

T0 = 1_760_000_000 * NS_PER_S
NAMES = ("a", "b", "c", "d")
DECISION = DecisionOptions.model_validate(
    {"calibration_ticks": 100, "false_alarms": "1 per day", "close_after": "10s", "detect_within": "10s"}
)
OVERFLOW = {"sensors": ["a"], "limit": {"above": 40}, "for": "3s", "severity": "high"}


class Gateway:
    """A pipeline with rules on a clock that the test moves."""

    def __init__(
        self, rules: dict[str, object], sensors: dict[str, SensorOptions] | None = None, seed: int = 0
    ) -> None:
        known = sensors or {}
        self.options = PipelineOptions(
            decision=DECISION,
            rules={name: RuleOptions.model_validate(rule) for name, rule in rules.items()},
            sensor_options=lambda name: known.get(name, SensorOptions()),
        )
        self.clock = VirtualClock(T0)
        self.metrics = Metrics()
        self.pipeline = Pipeline(
            self.options,
            StatisticalDetector(),
            StatisticalDetector,
            self.clock,
            self.metrics,
            UlidMaker(random.Random(seed)),
        )
        self.port = self.pipeline.port("press", SourceOptions(type="test"))
        self.bodies: list[dict[str, object]] = []

    def tick(self, **values: float) -> TickReport:
        self.clock.advance(NS_PER_S)
        noise = np.random.default_rng(self.pipeline.ticks).normal(20, 1, len(NAMES))
        given = {**dict(zip(NAMES, noise.tolist(), strict=True)), **values}
        self.pipeline.take(self.port, Batch(tuple(given), list(given.values()), self.clock.monotonic_ns()))
        report = self.pipeline.tick(self.clock.monotonic_ns())
        self.bodies += [event.body for event in report.events]
        return report

    def told(self) -> list[tuple[str, str]]:
        return [(str(body["kind"]), str(body["state"])) for body in self.bodies if "state" in body]


def test_a_rule_needs_no_warm_up() -> None:
    gateway = Gateway({"overflow": OVERFLOW}, {"a": SensorOptions(unit="mm", area="north")})
    for _ in range(6):
        gateway.tick(a=50.0)
    for _ in range(12):
        gateway.tick()
    assert gateway.told() == [("rule", "open"), ("rule", "closed")]
    opened = gateway.bodies[0]
    assert (opened["severity"], opened["rules"], opened["areas"]) == ("high", ["overflow"], ["north"])
    assert opened["summary"] == "a reads 50 mm, above 40 mm, rule overflow, since 08:53:24 UTC"
    assert gateway.metrics.incidents.labels("rule", "high").value == 1
    assert gateway.metrics.rule_holds.labels("overflow").value == 1


def test_what_is_out_of_its_range_is_missing() -> None:
    gateway = Gateway({"overflow": OVERFLOW}, {"a": SensorOptions(max=45)})
    for _ in range(8):
        gateway.tick(a=50.0)
    assert gateway.told() == []
    assert gateway.pipeline.rules.status() == {"watched": 1, "holding": [], "pending": 0, "unknown": ["overflow"]}
    assert gateway.metrics.rules.labels("unknown").value == 1


def test_history_that_is_run_through_first_makes_no_rule_hold() -> None:
    gateway = Gateway({"overflow": OVERFLOW})
    gateway.pipeline.trusting = True
    for _ in range(8):
        gateway.tick(a=50.0)
    assert gateway.told() == []


def test_the_model_and_a_rule_make_one_incident_of_one_trouble() -> None:
    gateway = Gateway({"overflow": OVERFLOW})
    for _ in range(800):
        gateway.tick()
    for _ in range(25):
        gateway.tick(a=60.0)
    open_now = gateway.pipeline.lifecycle.open_incidents()
    kinds = [one.kind for one in open_now if one.kind is not IncidentKind.DATA_QUALITY]
    assert kinds == [IncidentKind.PROCESS]
    assert open_now[0].rules == ("overflow",)
    assert open_now[0].severity in (Severity.HIGH, Severity.CRITICAL)


def test_what_a_rule_objects_to_is_not_learned_as_normal() -> None:
    gateway = Gateway({"overflow": OVERFLOW})
    calibration = gateway.pipeline.decider
    for _ in range(20):
        gateway.tick(a=50.0)
    begun = calibration.progress
    for _ in range(60):
        gateway.tick(a=50.0)
    assert calibration.progress == begun == 0.0
    for _ in range(100):
        gateway.tick()
    assert calibration.progress > begun


def test_a_rule_that_always_holds_does_not_keep_the_warm_up_from_ending() -> None:
    gateway = Gateway({"overflow": OVERFLOW})
    for _ in range(1_500):
        gateway.tick(a=50.0)
    assert not gateway.pipeline.last_report.decision.warming_up  # type: ignore[union-attr]


def test_reload_takes_states_and_rules() -> None:
    gateway = Gateway({"run": {"when": "a == running"}})
    gateway.tick(a=3.0)
    options = {"run": RuleOptions.model_validate({"when": "a == running"})}
    states = states_by_name(lambda _name: SensorOptions(states={"running": 3.0}))
    gateway.pipeline.rules.reload(options, states)
    gateway.tick(a=3.0)
    assert gateway.told() == [("rule", "open")]


def test_a_rule_that_holds_over_a_restart_is_not_told_again() -> None:
    before = Gateway({"overflow": OVERFLOW})
    for _ in range(6):
        before.tick(a=50.0)
    (opened,) = before.pipeline.lifecycle.open_incidents()
    after = Gateway({"overflow": OVERFLOW}, seed=1)
    saved = before.pipeline.lifecycle.export(before.clock.monotonic_ns(), before.clock.wall_ns())
    after.pipeline.lifecycle.restore(saved, after.clock.monotonic_ns(), after.clock.wall_ns())
    for _ in range(6):
        after.tick(a=50.0)
    (still,) = after.pipeline.lifecycle.open_incidents()
    assert still.id == opened.id
    assert ("rule", "open") not in after.told()
    for _ in range(15):
        after.tick()
    assert after.told()[-1] == ("rule", "closed")
    assert after.pipeline.lifecycle.open_incidents() == []


def test_a_rule_within_an_incident_of_the_model_waits_for_that_after_a_restart() -> None:
    before = Gateway({"overflow": OVERFLOW})
    for _ in range(800):
        before.tick()
    for _ in range(25):
        before.tick(a=60.0)
    after = Gateway({"overflow": OVERFLOW}, seed=1)
    saved = before.pipeline.lifecycle.export(before.clock.monotonic_ns(), before.clock.wall_ns())
    after.pipeline.lifecycle.restore(saved, after.clock.monotonic_ns(), after.clock.wall_ns())
    for _ in range(30):
        after.tick(a=60.0)
    assert [kind for kind, _ in after.told() if kind == "rule"] == []
    assert after.pipeline.rules.status()["holding"] == ["overflow"]


def test_a_silent_sensor_is_one_status_event() -> None:
    gateway = Gateway({"typo": {"when": "aa > 1"}})
    for _ in range(400):
        gateway.tick()
    found = [body for body in gateway.bodies if body.get("what") == "rule"]
    assert [body["message"] for body in found] == ["rule typo lacks sensors never heard of: aa; did you mean 'a'?"]


def test_another_recording_starts_rules_anew() -> None:
    gateway = Gateway({"overflow": OVERFLOW})
    for _ in range(6):
        gateway.tick(a=50.0)
    closed = gateway.pipeline.new_run()
    assert [event.body["state"] for event in closed] == ["closed"]
    gateway.bodies.clear()
    for _ in range(3):
        gateway.tick(a=50.0)
    assert gateway.told() == []
