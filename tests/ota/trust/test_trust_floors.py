"""The two holes of TUF on a gateway: lost metadata and a clock in the past. The gateway's floors close them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gateway import Gateway
from static_server import StaticServer
from tuf_repository import NOW_S, Repository

from edge_agent.errors import OtaError
from edge_agent.ota.judge import Judgement, Moment, Policy, Verdict, judge, read_news, seen
from edge_agent.ota.ports import Checked, Facts
from edge_agent.ota.state import InForce, OtaState
from edge_agent.ota.trust.work import Vouched

NEW = b"the new model " * 5_000
YEAR = 365 * 86_400.0


def judged(found: Vouched, state: OtaState, now_s: float = NOW_S) -> tuple[Judgement, OtaState]:
    checked = Checked(found.ring_file, found.signed_s, found.expires_s, found.version)
    news = read_news(checked, "stable")
    facts = Facts("0.1.0", (), InForce(), 10**9, 10**9)
    judgement = judge(news, state, facts, Policy("stable"), Moment(now_s))
    return judgement, state.model_copy(update=seen(news, state))


@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_a_replayed_release_is_refused_though_the_metadata_here_are_lost(
    gateway: Gateway, repository: Repository, tmp_path: Path, damage: str
) -> None:
    older = repository.saved(tmp_path / "older")
    repository.release(NEW)
    judgement, state = judged(gateway.check(), OtaState())
    assert judgement.verdict is Verdict.FETCH
    for file in gateway.settings.metadata.glob("*.json"):
        if damage == "removed":
            file.unlink()
        elif not file.is_symlink():
            file.write_bytes(b"")
    repository.restore(older)
    replayed = gateway.check()
    assert json.loads(replayed.ring_file)["counter"] == 1  # TUF alone does not know better
    judgement, _ = judged(replayed, state)
    assert (judgement.verdict, judgement.reason) == (Verdict.REFUSE, "rollback")


@pytest.mark.parametrize("clock_s", [0.0, NOW_S - 2 * YEAR], ids=["1970", "two years back"])
def test_a_frozen_repository_is_refused_though_the_clock_is_in_the_past(gateway: Gateway, clock_s: float) -> None:
    gateway.check(clock_s)  # nothing is known yet of the time
    with pytest.raises(OtaError) as caught:
        gateway.check(max(clock_s, NOW_S + 10 * 86_400))  # a newer signature has been seen since
    assert caught.value.reason == "expired"


def test_the_time_floor_comes_from_the_timestamp(gateway: Gateway, repository: Repository) -> None:
    found = gateway.check(0.0)
    assert found.signed_s == NOW_S
    _, state = judged(found, OtaState())
    assert state.time_floor_s == NOW_S
    assert found.expires_s == NOW_S + 86_400
    assert found.version == repository.metadata["timestamp"].signed.version


@pytest.mark.parametrize("now_s", [NOW_S + 2 * 86_400, NOW_S + 3 * YEAR])
def test_a_clock_in_the_future_installs_nothing(gateway: Gateway, now_s: float) -> None:
    gateway.refuses("expired", now_s)


@pytest.mark.parametrize(
    "said",
    [
        "yesterday",
        "2026-11-20T12:00:00",
        12,
        None,
        ["2026-11-20T12:00:00Z"],
        "0001-01-01T00:00:00Z",
        "2100-01-01T00:00Z",
    ],
)
def test_a_moment_of_signing_that_is_none_is_refused(gateway: Gateway, repository: Repository, said: object) -> None:
    repository.metadata["timestamp"].signed.unrecognized_fields["x-edge-agent-issued"] = said
    repository.bump("timestamp")
    if said is None:
        assert gateway.check().signed_s == 0.0
    else:
        gateway.refuses("signature")


def test_without_a_moment_of_signing_none_is_proved(gateway: Gateway, repository: Repository) -> None:
    del repository.metadata["timestamp"].signed.unrecognized_fields["x-edge-agent-issued"]
    repository.bump("timestamp")
    assert gateway.check().signed_s == 0.0


def test_a_revoked_key_is_refused_though_the_root_that_revoked_it_is_damaged_here(
    gateway: Gateway, repository: Repository, tmp_path: Path
) -> None:
    """A power cut took the root, and somebody with the old key hides that there is a newer one."""
    old = repository.rotate("timestamp")
    repository.release(NEW)
    gateway.check()
    honest = repository.saved(tmp_path / "honest")
    (gateway.settings.metadata / "root_history" / "2.root.json").write_bytes(b"\0" * 100)
    repository.file_of("root").unlink()
    repository.metadata["timestamp"].signed.version += 1
    repository.put("timestamp", signers=[old])
    assert "trusted here before" in str(gateway.refuses("rollback"))
    repository.restore(honest)
    gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_another_first_root_begins_anew(gateway: Gateway, tmp_path: Path, server: StaticServer) -> None:
    """The owner has moved the gateway to another fleet: versions of the first one mean nothing there."""
    other = Repository(tmp_path / "other")
    other.release(NEW)
    server.folder = other.folder
    gateway.refuses("signature")
    gateway.settings.root.write_bytes(other.first_root)
    gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_a_damaged_copy_of_the_first_root_is_not_another_owner(gateway: Gateway, repository: Repository) -> None:
    repository.rotate("timestamp")
    repository.release(NEW)
    gateway.check()
    history = gateway.settings.metadata / "root_history"
    damaged = bytearray((history / "1.root.json").read_bytes())
    damaged[damaged.index(b'"sig":"') + 10] ^= 1
    (history / "1.root.json").write_bytes(damaged)
    gateway.update()
    assert (history / "2.root.json").exists()
    assert (history / "1.root.json").read_bytes() == repository.first_root


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 600_000])
def test_without_a_usable_first_root_nothing_is_trusted(gateway: Gateway, content: bytes | None) -> None:
    if content is None:
        gateway.settings.root.unlink()
    else:
        gateway.settings.root.write_bytes(content)
    assert "ota.root" in str(gateway.refuses("damaged_trust"))
