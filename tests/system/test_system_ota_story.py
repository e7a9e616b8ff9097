"""An update from the publisher to the gateway and, where it must, back again: real programs throughout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from daemon_process import until
from ota_site import LONG, NOW, OTHER_RING, POISON, RING, STAGE, Gateway, Plant, Site, good_model, poisoned_model

from edge_agent.ota.ring import FACTORY, Shadow

pytestmark = [pytest.mark.counterpart, pytest.mark.timeout(180)]

IMAGE = f"registry.example.com/edge-agent@sha256:{'a' * 64}"


@pytest.mark.slow
def test_a_release_is_pushed_tried_and_kept_and_a_poisoned_one_goes_back(
    site: Site, gateway: Gateway, plant: Plant, tmp_path: Path
) -> None:
    gateway.start().until_ticking()
    first = site.publish(good_model(tmp_path, "1.0.0"), image=IMAGE)
    gateway.until_outcome(first, "committed")
    assert gateway.model() == "tiny 1.0.0"
    assert gateway.ota()["image"] == IMAGE

    poisoned = poisoned_model(tmp_path, "1.1.0")
    second = site.publish(poisoned, trial=LONG)
    gateway.until_on_trial("tiny 1.1.0")
    ticks = gateway.ticks()
    plant.value = POISON
    outcome = gateway.until_outcome(second, "rolled_back")
    assert outcome["reason"] == "errors"
    assert "the model failed at" in outcome["message"]
    assert gateway.model() == "tiny 1.0.0"
    assert gateway.agent.metric("edge_agent_ota_rollbacks_total", reason="errors") == 1
    told = "release tiny-1.1.0 was taken back: the model failed at"
    until(lambda: told in gateway.agent.log(), "it to be logged too")
    denied = [item["sha256"] for item in gateway.ota()["denied"]]
    assert denied == [second.details["bundle"]]
    gateway.until_ticking()
    assert gateway.ticks() > ticks

    # The same bundle under another name: never again.
    again = site.publish(poisoned, release="once-more")
    outcome = gateway.until_outcome(again, "refused")
    assert (outcome["reason"], gateway.model()) == ("denied", "tiny 1.0.0")

    # A newer ring file takes the fleet back to what came with the agent.
    back = site.told(site.repository.rollback(RING, FACTORY))
    gateway.until_outcome(back, "committed")
    assert gateway.model().startswith("universal ")
    assert gateway.agent.stop() == 0


@pytest.mark.slow
def test_what_is_staged_waits_for_its_moment_and_a_halt_takes_a_trial_back(
    site: Site, gateway: Gateway, plant: Plant, tmp_path: Path
) -> None:
    gateway.start().until_ticking()
    site.publish(good_model(tmp_path, "1.0.0"), rings=(OTHER_RING,))
    promoted = site.told(site.repository.promote("tiny-1.0.0", OTHER_RING, RING, STAGE))
    gateway.until_phase("staged")
    assert gateway.model().startswith("universal ")
    assert gateway.ota()["floors"] == {RING: promoted.counters[RING]}, "not that of the other ring"
    site.told(site.repository.activate(RING, NOW))
    until(lambda: gateway.model() == "tiny 1.0.0", "the staged model to answer")
    gateway.until_phase("idle")

    second = site.publish(good_model(tmp_path, "2.0.0"), trial=LONG)
    gateway.until_on_trial("tiny 2.0.0")
    halted = site.told(site.repository.halt(RING, "for a test"))
    until(lambda: gateway.model() == "tiny 1.0.0", "the halt to take the trial back")
    assert gateway.ota()["outcome"]["reason"] == "halted"
    assert gateway.ota()["floors"][RING] == halted.counters[RING] > second.counters[RING]
    assert gateway.ota()["denied"] == [], "a halt denies nothing"
    assert gateway.agent.stop() == 0


@pytest.mark.slow
def test_a_candidate_that_scores_otherwise_does_not_get_out_of_the_shadow(
    site: Site, gateway: Gateway, plant: Plant, tmp_path: Path
) -> None:
    gateway.start().until_ticking()
    change = site.publish(poisoned_model(tmp_path, "1.0.0"), shadow=Shadow(seconds=3600, ticks=40))
    gateway.until_phase("shadow")
    assert gateway.model().startswith("universal ")
    plant.value = POISON
    outcome = gateway.until_outcome(change, "quarantined")
    assert outcome["reason"] == "errors"
    told = re.fullmatch(r"the candidate failed at (\d+) of (\d+) ticks, expected none", outcome["message"])
    assert told is not None
    assert 0 < int(told[1]) <= int(told[2])
    assert gateway.model().startswith("universal ")
    assert gateway.agent.metric("edge_agent_model_swaps_total", outcome="updated") == 0
    assert gateway.agent.stop() == 0
