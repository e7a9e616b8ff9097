"""The attack matrix: everything that somebody on the way, or with some of the keys, could try. Each is refused with its
own reason, and the model on the gateway stays as it was."""

from __future__ import annotations

import copy
from datetime import timedelta
from pathlib import Path

import pytest
from gateway import Gateway
from securesystemslib.signer import CryptoSigner
from static_server import Handler, StaticServer
from tuf.api.metadata import MetaFile
from tuf_repository import MODELS, NOW_S, Repository

OLD, NEW = b"the old model " * 5_000, b"the new model " * 5_000
DAY = 86_400.0


def test_the_next_release_is_taken(gateway: Gateway, repository: Repository) -> None:
    repository.release(NEW)
    gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_one_flipped_bit_of_the_model_is_refused(gateway: Gateway, repository: Repository) -> None:
    file = repository.file_of_target(repository.release(NEW)["model"])
    content = bytearray(file.read_bytes())
    content[1_000] ^= 1
    file.write_bytes(content)
    assert "sha256 is" in str(gateway.refuses("mismatch"))


@pytest.mark.parametrize("honest", [True, False], ids=["length said", "length not said"])
def test_of_a_model_that_is_longer_no_byte_too_many_is_read(
    gateway: Gateway, repository: Repository, server: StaticServer, honest: bool
) -> None:
    named = repository.release(NEW)["model"]
    endless = b"x" * 50_000_000

    def answer(handler: Handler) -> None:
        handler.answer(200, endless, said=None if honest else -1)

    server.answers[Path(named["path"]).name] = answer
    gateway.refuses("mismatch")
    assert server.sent < 10_000_000  # what fitted into buffers on the way
    assert not list((gateway.settings.folder / "partial").glob("*.part")) or honest


def test_a_model_that_is_shorter_is_refused(gateway: Gateway, repository: Repository) -> None:
    file = repository.file_of_target(repository.release(NEW)["model"])
    file.write_bytes(file.read_bytes()[:-1])
    gateway.refuses("mismatch")


def test_a_model_that_is_not_there_is_refused(gateway: Gateway, repository: Repository) -> None:
    repository.file_of_target(repository.release(NEW)["model"]).unlink()
    assert "404" in str(gateway.refuses("missing"))


def test_an_older_timestamp_is_refused(gateway: Gateway, repository: Repository) -> None:
    older = repository.file_of("timestamp").read_bytes()
    repository.release(NEW)
    gateway.check()
    repository.file_of("timestamp").write_bytes(older)
    gateway.refuses("rollback")


def test_an_older_snapshot_is_refused_though_the_timestamp_key_is_stolen(
    gateway: Gateway, repository: Repository
) -> None:
    older = repository.metadata["snapshot"].signed.version
    repository.release(NEW)
    gateway.check()
    repository.metadata["timestamp"].signed.snapshot_meta = MetaFile(older)
    repository.bump("timestamp")
    gateway.refuses("rollback")


def test_older_targets_are_refused_though_both_online_keys_are_stolen(gateway: Gateway, repository: Repository) -> None:
    older = copy.deepcopy(repository.metadata["snapshot"].signed.meta)
    repository.release(NEW)
    gateway.check()
    repository.metadata["snapshot"].signed.meta = older
    repository.publish_online()
    gateway.refuses("rollback")


def test_a_repository_that_stands_still_is_refused_once_its_timestamp_has_expired(gateway: Gateway) -> None:
    gateway.check(NOW_S + DAY - 1)
    assert "timestamp" in str(gateway.refuses("expired", NOW_S + DAY))


def test_an_unsigned_timestamp_is_refused(gateway: Gateway, repository: Repository) -> None:
    repository.metadata["timestamp"].signed.version += 1
    repository.put("timestamp", signers=[])
    gateway.refuses("signature")


def test_a_timestamp_signed_with_another_role_s_key_is_refused(gateway: Gateway, repository: Repository) -> None:
    repository.metadata["timestamp"].signed.version += 1
    repository.put("timestamp", signers=repository.signers["targets"])
    gateway.refuses("signature")


def test_a_new_model_is_refused_without_the_keys_of_its_makers(gateway: Gateway, repository: Repository) -> None:
    """Both keys that are on the server are stolen; the thief signs the rest with keys of his own."""
    for role in ("targets", MODELS, "rings"):
        repository.signers[role] = [CryptoSigner.generate_ed25519() for _ in repository.signers[role]]
    repository.release(NEW)
    gateway.refuses("signature")


@pytest.mark.parametrize("role", ["snapshot", "rings"])
def test_old_metadata_under_a_new_name_is_refused(gateway: Gateway, repository: Repository, role: str) -> None:
    """Mix and match: each file is well signed, but they do not belong together."""
    older = repository.file_of(role).read_bytes()
    repository.release(NEW)
    repository.file_of(role).write_bytes(older)
    gateway.refuses("rollback")


def test_endless_metadata_is_not_read_to_its_end(
    gateway: Gateway, repository: Repository, server: StaticServer
) -> None:
    repository.file_of("timestamp").write_bytes(b" " * 50_000_000)
    gateway.refuses("too_large")
    assert server.sent < 10_000_000  # what fitted into buffers on the way


def test_metadata_are_not_as_long_as_a_stolen_timestamp_key_says(
    gateway: Gateway, repository: Repository, server: StaticServer
) -> None:
    repository.bump("snapshot")
    repository.file_of("snapshot").write_bytes(b" " * 50_000_000)
    repository.metadata["timestamp"].signed.snapshot_meta.length = 10**12
    repository.bump("timestamp")
    gateway.refuses("too_large")
    assert server.sent < 15_000_000  # 5 MB, and what fitted into buffers on the way


def test_a_stolen_timestamp_key_cannot_push_the_time_beyond_what_others_signed(
    gateway: Gateway, repository: Repository
) -> None:
    """Else nothing would ever be valid again on this gateway, whatever its owner signs."""
    timestamp = repository.metadata["timestamp"].signed
    timestamp.expires = repository.now + timedelta(days=30_000)
    timestamp.unrecognized_fields["x-edge-agent-issued"] = (repository.now + timedelta(days=20_000)).isoformat()
    repository.bump("timestamp")
    assert "before any expiry" in str(gateway.refuses("signature"))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 15_000,
        b'{"signed": ' * 1_300,
        b'{"signed": {"_type": "timestamp", "version": ' + b"9" * 10_000 + b"}}",
        b'{"signed": {"_type": "timestamp", "version": NaN}, "signatures": []}',
        b'{"signed": {"_type": "timestamp"}, "signatures": {"a": 1}}',
        b'{"signed": {"_type": "root"}, "signatures": []}',
        b'{"signed": {"_type": ["timestamp"]}, "signatures": []}',
        b"\xef\xbb\xbf{}",
        b"null",
        b"",
    ],
    ids=range(10),
)
def test_nasty_documents_are_refused(gateway: Gateway, repository: Repository, content: bytes) -> None:
    repository.file_of("timestamp").write_bytes(content)
    gateway.refuses("signature")


def test_a_root_with_too_few_signatures_is_refused(gateway: Gateway, repository: Repository) -> None:
    repository.metadata["root"].signed.version += 1
    repository.put("root", signers=repository.signers["root"][:1])
    gateway.refuses("signature")


def test_a_rotated_key_is_accepted(gateway: Gateway, repository: Repository) -> None:
    repository.rotate("timestamp")
    repository.release(NEW)
    gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_a_revoked_key_is_refused(gateway: Gateway, repository: Repository) -> None:
    old = repository.rotate("timestamp")
    repository.release(NEW)
    gateway.check()
    repository.metadata["timestamp"].signed.version += 1
    repository.put("timestamp", signers=[old])
    gateway.refuses("signature")


def test_who_may_sign_rings_may_not_sign_models(gateway: Gateway, repository: Repository) -> None:
    named = repository.release(NEW)["model"]
    rings = repository.metadata["rings"].signed.targets
    rings[named["path"]] = repository.metadata[MODELS].signed.targets.pop(named["path"])
    repository.publish()
    gateway.refuses("missing")


def test_one_of_two_signatures_is_not_enough(gateway: Gateway, repository: Repository) -> None:
    repository.signers[MODELS].pop()
    repository.release(NEW)
    assert "1/2" in str(gateway.refuses("signature"))


def test_a_ring_that_names_other_bytes_than_the_model_s_signers_is_refused(
    gateway: Gateway, repository: Repository
) -> None:
    body = repository.release(NEW)
    repository.add(MODELS, body["model"]["path"], NEW + b"!")
    repository.publish()
    gateway.refuses("mismatch")
