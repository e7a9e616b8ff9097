"""What nobody meant to happen: a dying disk, an operator in the middle, a publisher who changes his mind."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from pydantic import ValidationError
from updater_rig import ORIGIN, Package, Rig, ring_of, yields

from edge_agent.contract import Hint
from edge_agent.errors import OtaError
from edge_agent.ota.boot import boot
from edge_agent.ota.chain import ChainedLog, entries, verify
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ring import MAX_DENIED, Ring
from edge_agent.ota.state import MAX_OWN_DENIED, Denied, OtaState, Phase, Result
from edge_agent.ota.state_store import StateStore, remembered

STICK = "file:///media/usb"


def release(package: Package, counter: int, **fields: object) -> Ring:
    return ring_of(counter, model=package.target, **fields)


async def committed(rig: Rig, package: Package, counter: int) -> None:
    rig.trust.publish(release(package, counter), package.tar)
    await rig.look()
    await rig.passes(61)
    outcome = rig.state.outcome
    assert outcome is not None
    assert outcome.result is Result.COMMITTED


# -- a dying disk ----------------------------------------------------------------------------------------------------


async def test_disk_that_lets_nothing_go_keeps_updates_running(
    rig: Rig, packages: dict[str, Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async with rig.started():
        await committed(rig, packages["A"], 1)
        monkeypatch.setattr(Path, "unlink", read_only)
        rig.prober.errors["gate"] = OtaError("gate", "not a model")
        rig.trust.publish(release(packages["B"], 2), packages["B"].tar)
        await rig.look()
        assert not rig.running.done()
        assert rig.state.outcome is not None
        assert rig.state.outcome.result is Result.QUARANTINED


async def test_what_nobody_expected_is_told_and_tried_again(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        facts, rig.host.facts = rig.host.facts, _fails  # type: ignore[method-assign]
        await rig.passes(61)
        assert not rig.running.done()
        rig.host.facts = facts  # type: ignore[method-assign]
        assert "KeyError" in (rig.updater.report().problem or "")
        await rig.look()
        await rig.passes(61)
        assert rig.state.outcome is not None
        assert rig.state.outcome.result is Result.COMMITTED


def _fails(*_: object) -> None:
    raise KeyError("nobody thought of it")


async def test_log_of_rubbish_keeps_nobody_from_starting(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
    audit = rig.data_dir / "ota" / "audit.jsonl"
    for rubbish in (b"\n" * 400_000, b'{"seq":18446744073709551615,"prev":""}\n'):
        audit.write_bytes(audit.read_bytes() + rubbish)
        began_s = time.monotonic()
        async with rig.started():
            assert rig.host.in_force.model == packages["A"].bundle.sha256
        assert time.monotonic() - began_s < 5
        assert verify(audit) is None


def test_start_that_goes_wrong_is_one_all_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChainedLog, "append", _fails)
    StateStore(rig.data_dir / "ota", rig.clock).save(OtaState(phase=Phase.COMMITTED))
    found = boot(rig.data_dir, rig.clock)
    assert found.state.phase is Phase.IDLE
    assert "KeyError" in found.problems[-1]


# -- what the publisher counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"activate": {"mode": "stage"}}, {"halt": True}])
async def test_failure_stays_told_under_a_newer_ring_file(
    rig: Rig, packages: dict[str, Package], change: dict[str, object]
) -> None:
    """Or a publisher that pauses, widens or halts a release would not know of its failures any more."""
    async with rig.started():
        await committed(rig, packages["A"], 1)
        rig.sick[packages["B"].bundle.sha256] = {"detector_failures": 3}
        rig.trust.publish(release(packages["B"], 2, release="bad"), packages["B"].tar)
        await rig.look()
        await rig.passes(1)
        rig.trust.publish(release(packages["B"], 3, release="bad", **change))
        await rig.look()
        outcome = rig.updater.report().outcome
        assert outcome is not None
        assert (outcome.release, outcome.result, outcome.reason) == ("bad", Result.ROLLED_BACK, "errors")
        assert rig.state.floors["stable"].counter == 3
        assert rig.host.in_force.model == packages["A"].bundle.sha256


async def test_operator_cannot_go_back_to_what_was_denied_since(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        await committed(rig, packages["B"], 2)
        rig.trust.publish(release(packages["B"], 3, denied=(packages["A"].bundle.sha256,)))
        await rig.look()
        await rig.updater.roll_back("operator")
        await rig.settle()
        assert rig.host.in_force.model is None


# -- sticks ----------------------------------------------------------------------------------------------------------


async def test_stick_is_taken_though_the_network_had_begun(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1, activate={"mode": "stage"}), packages["A"].tar)
        rig.trust.may_fetch.clear()
        await rig.look()
        assert (rig.phase, rig.state.origin) == (Phase.DOWNLOADING, None)
        await rig.updater.sideload(STICK, "operator")
        assert rig.state.origin == STICK
        await rig.look()
        assert rig.state.origin == STICK
        rig.trust.may_fetch.set()
        await rig.settle()
        assert rig.phase is Phase.STAGED


async def test_network_goes_on_when_the_stick_is_gone(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1, activate={"mode": "stage"}), packages["A"].tar)
        rig.trust.gone = STICK
        await rig.updater.sideload(STICK, "operator")
        await rig.settle()
        assert (rig.phase, rig.state.origin) == (Phase.DOWNLOADING, STICK)
        rig.trust.checks.clear()
        for _ in range(3):  # a look that comes upon an attempt ends it; the next one finds that it has failed
            await rig.look()
        assert rig.trust.checks[-1][0] == ORIGIN
        assert (rig.phase, rig.state.origin) == (Phase.STAGED, None)


async def test_longest_path_of_a_stick_survives_a_restart(rig: Rig, packages: dict[str, Package]) -> None:
    """PATH_MAX is 4,096 bytes (limits.h), each of which an address writes with three characters."""
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        rig.trust.may_fetch.clear()
        await rig.updater.sideload("file://" + "/%C3%A4" * 1_500 + "%C3%A4" * 500, "operator")
        await yields()
    assert rig.phase is Phase.DOWNLOADING


# -- whoever owns broker and web server -------------------------------------------------------------------------------


async def test_flood_of_hints_does_not_keep_a_slow_line_from_fetching(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        rig.trust.may_fetch.clear()
        await rig.look()
        assert rig.phase is Phase.DOWNLOADING
        rig.trust.checks.clear()
        for _ in range(120):
            rig.updater.look(Hint())
            await rig.passes(1)
        assert len(rig.trust.checks) == 2
        await rig.look()
        assert len(rig.trust.checks) == 3, "but an operator need not wait"


async def test_server_that_shows_now_this_now_that_is_told_once_an_hour(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        audited = len(list(entries(rig.data_dir / "ota" / "audit.jsonl")))
        rig.host.notices.clear()
        for reason in ("rollback", "signature") * 20:
            for error in (OtaError(reason, f"no {reason}"), None):
                rig.trust.error = error
                rig.updater.look(Hint())
                await rig.passes(11)
        assert sorted(rig.host.notices) == ["update_refused: no rollback", "update_refused: no signature"]
        assert len(list(entries(rig.data_dir / "ota" / "audit.jsonl"))) == audited + 2
        await rig.passes(3_600)
        rig.host.notices.clear()
        for number in range(40):
            rig.trust.error = OtaError("rollback", f"got version {number}")
            rig.updater.look(Hint())
            await rig.passes(11)
        assert rig.host.notices == [f"update_refused: got version {number}" for number in range(20)]


# -- what could not be read back -------------------------------------------------------------------------------------


def test_hardware_that_no_report_could_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="raspberry pi 4"):
        OtaOptions.model_validate({"hardware": ["raspberry pi 4"]})


def test_denials_of_a_long_log_are_a_state_that_can_be_read_back() -> None:
    log = [{"action": "deny", "sha256": f"{number:064x}", "reason": "errors"} for number in range(1_000)]
    log += [{"action": "deny", "sha256": f"{number:064x}", "reason": "denied"} for number in range(2_000, 3_000)]
    state = remembered(log)
    assert len(state.denied) == MAX_OWN_DENIED + MAX_DENIED
    assert Denied(sha256=f"{999:064x}", reason="errors") in state.denied
    assert OtaState.model_validate_json(state.model_dump_json(by_alias=True)) == state
