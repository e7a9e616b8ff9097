"""What is told: reports, metrics, audit log, notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from updater_rig import Package, Rig, ring_of, yields

from edge_agent.errors import OtaError, StoreError
from edge_agent.ota.boot import AUDIT
from edge_agent.ota.chain import entries, verify
from edge_agent.ota.report import parse_report
from edge_agent.ota.state import Phase


def actions(rig: Rig) -> list[str]:
    return [entry["action"] for entry in entries(rig.data_dir / "ota" / AUDIT)]


async def test_report_says_how_it_went(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
        await rig.look()
        report = parse_report(rig.updater.report().to_json())
        assert (report.phase, report.release, report.counter) == (Phase.TRIAL, "r1", 1)
        assert report.model is not None
        assert (report.model.name, report.model.sha256) == ("A", packages["A"].bundle.sha256)
        assert report.previous is not None
        assert report.previous.name == "universal"
        await rig.passes(61)
        after = rig.updater.report()
        assert after.serial > report.serial
        assert verify(rig.data_dir / "ota" / AUDIT, after.audit_head) is None
    async with rig.started():
        assert rig.updater.report().serial >= after.serial
        assert rig.updater.report().outcome == after.outcome


async def test_next_report_is_the_latest_and_then_a_newer_one(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        first = await rig.updater.next_report()
        waiting = asyncio.create_task(rig.updater.next_report(), name="report")
        await yields()
        assert not waiting.done()
        rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
        await rig.look()
        assert (await waiting).serial > first.serial
        assert (await rig.updater.next_report()).phase is Phase.TRIAL


async def test_every_step_is_in_the_audit_log_with_who_wanted_it(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        ring = ring_of(1, model=packages["A"].target, activate={"mode": "stage"})
        rig.trust.publish(ring, packages["A"].tar)
        await rig.look()
        await rig.updater.activate("ann")
        await rig.passes(61)
        await rig.updater.roll_back("bob")
        rig.trust.publish(ring_of(2, model=packages["A"].target))
        await rig.look()
        rig.trust.error = OtaError("signature", "timestamp was signed by 0/1 keys")
        for _ in range(3):
            await rig.look()
    found = actions(rig)
    for action in ("release", "download", "gate", "probe", "activate", "commit", "rollback", "deny", "refuse"):
        assert action in found
    assert found.count("check_refused") == 1
    who = {entry["action"]: entry["by"] for entry in entries(rig.data_dir / "ota" / AUDIT)}
    assert (who["activate_asked"], who["rollback_asked"]) == ("ann", "bob")


async def test_metrics_follow(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(7, model=packages["A"].target), packages["A"].tar)
        await rig.look()
        metrics = rig.metrics
        assert metrics.ota_phase.labels("trial").value == 1
        assert metrics.ota_phase.labels("idle").value == 0
        assert metrics.ota_counter.labels().value == 7
        assert metrics.ota_downloaded_bytes.labels().value == len(packages["A"].tar)
        assert metrics.ota_checks.labels("fetch").value == 1
        assert metrics.ota_expires.labels().value == rig.trust.expires_s
        await rig.passes(61)
        assert metrics.ota_last_success.labels().value > 0
        rig.trust.publish(ring_of(6))
        await rig.look()
        assert metrics.ota_refusals.labels("rollback").value == 1


async def test_refusal_that_repeats_is_told_once(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(1, model=packages["A"].target, hardware=["jetson"]))
        for _ in range(5):
            await rig.look()
        assert len(rig.host.notices) == 1
        assert actions(rig).count("refuse") == 1
        report = rig.updater.report()
        assert report.problem == "release r1 is refused: for jetson; this gateway is x86_64"
        serial = rig.state.serial
        await rig.look()
        assert rig.state.serial == serial


async def test_sideload_says_why_it_was_refused(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(5, model=packages["A"].target), packages["A"].tar)
        report = await rig.updater.sideload("file:///media/usb", "ann")
        assert rig.trust.checks[-1][0] == "file:///media/usb"
        assert report.counter == 5
        await rig.settle()
        await rig.passes(61)
        rig.trust.publish(ring_of(4, model=packages["B"].target))
        with pytest.raises(OtaError, match="got counter 4, expected at least 5"):
            await rig.updater.sideload("file:///media/usb", "ann")
        rig.trust.error = OtaError("signature", "not signed")
        with pytest.raises(OtaError, match="not signed"):
            await rig.updater.sideload("file:///media/usb", "ann")


async def test_operator_is_refused_when_it_cannot_be_written_down(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(1, model=packages["A"].target, activate={"mode": "stage"}), packages["A"].tar)
        await rig.look()
        audit = rig.data_dir / "ota" / AUDIT
        audit.unlink()
        audit.mkdir()
        with pytest.raises(StoreError, match=r"audit.jsonl: cannot be written"):
            await rig.updater.activate("ann")
        assert rig.phase is Phase.STAGED


async def test_other_ring_gives_up_what_was_staged(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(1, model=packages["A"].target, activate={"mode": "stage"}), packages["A"].tar)
        await rig.look()
    rig.options = rig.options.model_copy(update={"ring": "canary"})
    async with rig.started():
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.reason) == (Phase.IDLE, "not_for_this_ring")


async def test_without_a_repository_nothing_is_looked_for(tmp_path: Path, packages: dict[str, Package]) -> None:
    rig = Rig(tmp_path, repository=None)
    async with rig.started():
        await rig.passes(100_000)
        assert rig.trust.checks == []
        with pytest.raises(OtaError, match=r"ota.repository is not set"):
            await rig.updater.check_now("ann")
        rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
        await rig.updater.sideload("file:///media/usb", "ann")
        await rig.settle()
        assert rig.phase is Phase.TRIAL
