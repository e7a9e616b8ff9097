"""Steps that the cycles seldom come to."""

from __future__ import annotations

from updater_rig import T0_S, config_target, ring_of

from edge_agent.ota import steps
from edge_agent.ota.ring import ModelTarget
from edge_agent.ota.state import Denied, InForce, OtaState, Phase, Result

A, B = "a" * 64, "b" * 64
CONFIG = config_target(b"graph: {}\n")
TARGET = ModelTarget(path="models/m/x.tar", sha256="c" * 64, bytes=1, bundle=B)


def test_what_was_before_does_not_come_back_when_it_was_denied_meanwhile() -> None:
    denied = tuple(Denied(sha256=sha256, reason="denied") for sha256 in (A, CONFIG.sha256))
    before = InForce(model=A, config=CONFIG.sha256)
    state = OtaState(phase=Phase.TRIAL, release=ring_of(1, model=TARGET), before=before, denied=denied)
    back = steps.taken_back(state, Result.ROLLED_BACK, "errors", "", T0_S)
    assert back.before == InForce()
    assert back.config is None


def test_only_what_the_release_changed_is_denied() -> None:
    ring = ring_of(1, model=TARGET, config=CONFIG)
    state = OtaState(phase=Phase.TRIAL, release=ring, before=InForce(model=B))
    back = steps.taken_back(state, Result.ROLLED_BACK, "errors", "", T0_S)
    assert [item.sha256 for item in back.denied] == [CONFIG.sha256]
    assert steps.taken_back(state, Result.HALTED, "halted", "", T0_S).denied == ()


def test_outcome_is_cut_to_what_a_report_holds() -> None:
    outcome = steps.ended("r1", 1, Result.REFUSED, "x" * 99, "y" * 9_999, 1e18)
    assert (len(outcome.reason), len(outcome.message), outcome.time.year) == (64, 1_000, 9999)
