from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from publisher_rig import PASSPHRASE, Client, Clock, ask, make
from tuf.api.exceptions import BadVersionNumberError, ExpiredMetadataError

from edge_agent.errors import OtaError
from edge_agent.ota.publisher import Repository
from edge_agent.ota.ring import Activate, Activation

Bundles = dict[str, Path]


def test_private_keys_are_encrypted_and_for_their_owner_only(repository: Repository) -> None:
    keys = sorted((repository.folder / "keys").glob("*.pem"))
    assert len(keys) == 8
    for key in keys:
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()
        assert key.stat().st_mode & 0o077 == 0
    everything = b"".join(path.read_bytes() for path in repository.folder.rglob("*") if path.is_file())
    assert PASSPHRASE.encode() not in everything


def test_wrong_passphrase_changes_nothing_and_is_told_without_it(repository: Repository, bundles: Bundles) -> None:
    locked = Repository.open(repository.folder, lambda _what, _new: "not it at all")
    with pytest.raises(OtaError, match=r"models-default-1\.pem: the passphrase does not open it") as refused:
        locked.publish(bundles["1.0.0"])
    assert refused.value.reason == "passphrase"
    assert "not it at all" not in str(refused.value)
    assert repository.ring("canary") is None
    assert repository.status()["audit_entries"] == 1


def test_short_passphrase_is_refused_for_a_new_key(tmp_path: Path) -> None:
    with pytest.raises(OtaError, match="got 5 characters, expected at least 8"):
        Repository.init(tmp_path / "fleet", lambda _what, _new: "short")


def test_key_that_is_not_encrypted_is_refused(repository: Repository, bundles: Bundles) -> None:
    from securesystemslib.signer import CryptoSigner

    pem = repository.folder / "keys" / "models-default-1.pem"
    pem.write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    with pytest.raises(OtaError, match="not an encrypted PKCS#8 key"):
        Repository.open(repository.folder, ask).publish(bundles["1.0.0"])


def test_missing_online_key_stops_every_action_and_is_named(repository: Repository) -> None:
    (repository.folder / "keys" / "online-1.pem").unlink()
    with pytest.raises(OtaError, match="a key of timestamp is needed for this, and is not here") as refused:
        Repository.open(repository.folder, ask).refresh()
    assert refused.value.reason == "key"


def test_what_lacks_a_signature_waits_for_who_has_the_key(
    repository: Repository, client: Client, bundles: Bundles, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    repository.add_key("second", "models-default", threshold=2, into=stick)
    alone = Repository.open(repository.folder, ask)
    done = alone.publish(bundles["1.0.0"])
    assert (done.published, dict(done.missing)) == (False, {"models-default": 1})
    assert client.ring("canary") is None
    assert alone.status()["pending"]["action"] == "publish"
    assert alone.sign().missing == {"models-default": 1}
    with pytest.raises(OtaError, match="'publish' waits for signatures: sign it first") as refused:
        alone.publish(bundles["1.1.0"])
    assert refused.value.reason == "pending"
    assert alone.refresh().published
    signed = Repository.open(repository.folder, ask, keys=[stick]).sign()
    assert (signed.published, dict(signed.counters)) == (True, {"canary": 1})
    ring = client.ring("canary")
    assert ring is not None
    assert ring.release == "tiny-1.0.0"
    assert alone.status()["pending"] is None


def test_pending_change_can_be_discarded_and_makes_way_for_a_halt(
    repository: Repository, client: Client, bundles: Bundles, tmp_path: Path
) -> None:
    repository.publish(bundles["1.0.0"])
    repository.add_key("second", "models-default", threshold=2, into=tmp_path / "stick")
    alone = Repository.open(repository.folder, ask)
    alone.publish(bundles["1.1.0"])
    alone.discard()
    with pytest.raises(OtaError, match="nothing waits"):
        alone.discard()
    alone.publish(bundles["1.1.0"])
    alone.halt("canary", "smoke")
    ring = client.ring("canary")
    assert ring is not None
    assert (ring.release, ring.halt, alone.status()["pending"]) == ("tiny-1.0.0", True, None)


def test_signature_that_was_changed_while_it_waited_counts_for_nothing(
    repository: Repository, bundles: Bundles, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    repository.add_key("second", "models-default", threshold=2, into=stick)
    Repository.open(repository.folder, ask).publish(bundles["1.0.0"])
    path = repository.folder / "pending" / "models-default.json"
    plain = json.loads(path.read_bytes())
    plain["signed"]["targets"].popitem()
    path.write_text(json.dumps(plain))
    (repository.folder / "keys" / "models-default-1.pem").unlink()
    late = Repository.open(repository.folder, ask, keys=[stick])
    assert late.sign().missing == {"models-default": 1}


def test_ring_with_a_role_of_its_own_needs_its_keys(
    repository: Repository, client: Client, bundles: Bundles, tmp_path: Path
) -> None:
    repository.publish(bundles["1.0.0"], rings=("canary", "stable"))
    repository.add_key("stable-1", "rings-stable")
    repository.add_key("stable-2", "rings-stable", threshold=2, into=tmp_path / "stick")
    stable = client.ring("stable")
    assert stable is not None
    assert stable.counter == 2
    alone = Repository.open(repository.folder, ask)
    assert alone.halt("canary").published
    assert alone.activate("stable", Activate(mode=Activation.NOW)).missing == {"rings-stable": 1}
    Repository.open(repository.folder, ask, keys=[tmp_path / "stick"]).sign()
    active = client.ring("stable")
    assert active is not None
    assert (active.activate.mode, active.counter) == (Activation.NOW, 4)


def test_client_with_the_first_root_follows_all_rotations(
    repository: Repository, client: Client, bundles: Bundles
) -> None:
    repository.publish(bundles["1.0.0"])
    assert client.ring("canary") is not None
    for role, old in (("root", "root-1"), ("root", "root-2"), ("root", "root-3"), ("timestamp", "online-1"),
                      ("snapshot", "online-1"), ("targets", "targets-1"), ("models-default", "models-default-1"),
                      ("config", "config-1"), ("rings", "rings-1")):  # fmt: skip
        repository.rotate(role, old, f"{role}-of-{old}")
        assert client.ring("canary") is not None, role
    for old in ("root-1", "root-2", "root-3", "online-1", "targets-1", "models-default-1", "config-1", "rings-1"):
        (repository.folder / "keys" / f"{old}.pem").unlink()
    late = Repository.open(repository.folder, ask)
    late.publish(bundles["1.1.0"])
    ring = client.ring("canary")
    assert ring is not None
    assert ring.release == "tiny-1.1.0"
    newcomer = Client(repository.folder.parent / "newcomer", repository.served)
    assert newcomer.ring("canary") == ring


def test_root_is_not_rotated_by_fewer_than_its_threshold(repository: Repository, client: Client) -> None:
    for name in ("root-2", "root-3"):
        (repository.folder / "keys" / f"{name}.pem").unlink()
    alone = Repository.open(repository.folder, ask)
    assert alone.rotate("timestamp", "online-1", "online-2").missing == {"root": 1}
    assert not (repository.served / "metadata" / "2.root.json").exists()
    assert client.ring("canary") is None


def test_lost_online_key_is_replaced_by_the_root_keys(repository: Repository, client: Client) -> None:
    assert client.ring("canary") is None
    (repository.folder / "keys" / "online-1.pem").unlink()
    late = Repository.open(repository.folder, ask)
    assert late.rotate("timestamp", "online-1", "online-2").published
    assert late.rotate("snapshot", "online-1", "online-2").published
    assert client.ring("canary") is None
    roles = late.status()["roles"]
    assert (roles["timestamp"]["keys"], roles["snapshot"]["keys"]) == (["online-2"], ["online-2"])


def test_role_and_threshold_that_cannot_be_are_refused(repository: Repository) -> None:
    with pytest.raises(OtaError, match="got a threshold of 3, expected 1 to 2"):
        repository.add_key("more", "config", threshold=3)
    with pytest.raises(OtaError, match="got role 'doors'"):
        repository.add_key("door", "doors")
    with pytest.raises(OtaError, match="expected rings- and one of canary, early, stable"):
        repository.add_key("moon", "rings-moon")
    with pytest.raises(OtaError, match="got 'online-1', expected one of the keys that sign for it"):
        repository.rotate("config", "online-1", "config-2")
    with pytest.raises(OtaError, match="'config-1' signs for it already"):
        repository.rotate("config", "config-1", "config-1")
    assert not (repository.folder / "keys" / "door.pem").exists()


def test_new_family_gets_its_own_role(repository: Repository, client: Client, bundles: Bundles) -> None:
    repository.add_key("pumps-1", "models-pumps")
    repository.publish(bundles["1.0.0"], family="pumps")
    ring = client.ring("canary")
    assert ring is not None
    assert client.get("models/pumps/tiny-1.0.0.tar") is not None


def test_expired_metadata_is_refused_by_a_client_until_it_is_refreshed(tmp_path: Path) -> None:
    clock = Clock()
    clock.ahead = timedelta(days=-8)
    repository = make(tmp_path / "fleet", clock)
    client = Client(tmp_path / "client", repository.served)
    with pytest.raises(ExpiredMetadataError):
        client.ring("canary")
    clock.ahead = timedelta()
    warnings = repository.status()["warnings"]
    assert [warning.split()[0] for warning in warnings] == ["snapshot", "timestamp", "rings"]
    assert "has expired" in warnings[0]
    assert repository.refresh().details["renewed"] == ["snapshot", "rings", "timestamp"]
    assert client.ring("canary") is None
    assert repository.status()["warnings"] == []


def test_refresh_goes_on_without_the_keys_of_others(tmp_path: Path) -> None:
    clock = Clock()
    repository = make(tmp_path / "fleet", clock)
    clock.ahead = timedelta(days=80)
    for name in ("targets-1", "models-default-1", "config-1", "rings-1"):
        (repository.folder / "keys" / f"{name}.pem").unlink()
    late = Repository.open(repository.folder, ask, now=clock)
    assert late.refresh().details["renewed"] == ["snapshot", "timestamp"]
    assert any(warning.startswith("targets expires") for warning in late.status()["warnings"])


def test_root_is_renewed_only_when_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    repository = make(tmp_path / "fleet", clock)
    clock.ahead = timedelta(days=300)
    assert "root" not in repository.refresh().details["renewed"]
    assert repository.refresh(["root"]).versions["root"] == 2
    with pytest.raises(OtaError, match="got role 'rots'"):
        repository.refresh(["rots"])


def test_changed_metadata_is_never_signed_again(repository: Repository, bundles: Bundles) -> None:
    repository.publish(bundles["1.0.0"])
    path = repository.served / "metadata" / "2.rings.json"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version": 2'))
    with pytest.raises(OtaError, match=r"2\.rings\.json: it was changed after it was signed") as refused:
        repository.refresh()
    assert refused.value.reason == "damaged"


def test_changed_ring_file_is_never_built_upon(repository: Repository, bundles: Bundles) -> None:
    repository.publish(bundles["1.0.0"])
    (path,) = (repository.served / "targets" / "rings").iterdir()
    path.write_bytes(path.read_bytes().replace(b'"halt": false', b'"halt": true '))
    with pytest.raises(OtaError, match="take it back from a mirror or a back-up"):
        repository.promote("tiny-1.0.0", "canary", "early")


def test_keys_may_be_known_by_their_public_half_only(repository: Repository, tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "elsewhere")
    public = elsewhere.folder / "keys" / "config-1.json"
    repository.add_key("theirs", "config", public=public)
    assert repository.status()["roles"]["config"]["keys"] == ["config-1", "theirs"]
    with pytest.raises(OtaError, match="its public half is needed too"):
        repository.add_key("cloud", "config", uri="gcpkms:projects/x")
    os.remove(repository.folder / "keys" / "config-1.pem")
    alone = Repository.open(repository.folder, ask)
    alone.refresh(["config"])
    assert alone.status()["pending"]["action"] == "refresh"


def test_repository_from_an_old_back_up_is_believed_again(
    repository: Repository, client: Client, bundles: Bundles, clock: Clock, tmp_path: Path
) -> None:
    """By new online keys, which make clients forget versions, and by `counter_from`, past the counters they saw."""
    repository.publish(bundles["1.0.0"])
    shutil.copytree(repository.folder, tmp_path / "week-old")
    for mode in (Activation.NOW, Activation.STAGE):
        repository.activate("canary", Activate(mode=mode))
    seen = client.ring("canary")
    assert seen is not None
    shutil.rmtree(repository.folder)
    shutil.copytree(tmp_path / "week-old", repository.folder)
    repository = Repository.open(repository.folder, ask, now=clock)
    with pytest.raises(BadVersionNumberError):
        client.ring("canary")
    for role in ("snapshot", "timestamp"):
        repository.rotate(role, "online-1", "online-2")
    settings = repository.folder / "repo.yaml"
    moment = int(repository.time().timestamp())
    settings.write_text(settings.read_text() + f"counter_from: {moment}\n")
    repository.publish(bundles["1.1.0"])
    found = client.ring("canary")
    assert found is not None
    assert (found.release, found.counter) == ("tiny-1.1.0", moment)
    assert found.counter > seen.counter


def test_counter_that_gateways_would_refuse_is_not_published(repository: Repository, bundles: Bundles) -> None:
    settings = repository.folder / "repo.yaml"
    settings.write_text(settings.read_text() + f"counter_from: {2**53}\n")
    with pytest.raises(OtaError, match="is `counter_from` right") as refused:
        repository.publish(bundles["1.0.0"])
    assert refused.value.reason == "counter"
    assert repository.ring("canary") is None
