"""Snapshot and timestamp for a change, and the order in which its files appear."""

from __future__ import annotations

from tuf.api.metadata import MetaFile, Targets

from edge_agent.errors import OtaError
from edge_agent.ota.publisher.audit import AUDIT
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.journal import Put
from edge_agent.ota.publisher.keyring import Keyring
from edge_agent.ota.publisher.metadata import AUDIT_HEAD, ISSUED, METADATA, metadata_name
from edge_agent.ota.publisher.signing import believed_by_old_root, sign

HASHES = ["sha256"]


def seal(draft: Draft, keyring: Keyring, audit_head: str | None) -> None:
    """Make and sign the snapshot, if anything in it changed, and the timestamp.

    :raises OtaError: reason ``key``: the keys for it are not here; they are needed for every action.
    """
    listed = {role: metadata for role, metadata in draft.changed.items() if isinstance(metadata.signed, Targets)}
    if listed or "snapshot" in draft.changed:
        snapshot = draft.edit("snapshot")
        for role, metadata in listed.items():
            snapshot.meta[f"{role}.json"] = MetaFile.from_data(metadata.signed.version, metadata.to_bytes(), HASHES)
        _sign(draft, keyring, "snapshot")
    timestamp = draft.edit("timestamp")
    newest = draft.seen("snapshot")
    if "snapshot" in draft.changed:
        timestamp.snapshot_meta = MetaFile.from_data(newest.signed.version, newest.to_bytes(), HASHES)
    timestamp.unrecognized_fields[ISSUED] = f"{draft.now:%Y-%m-%dT%H:%M:%SZ}"
    if audit_head is not None:
        timestamp.unrecognized_fields[AUDIT_HEAD] = audit_head
    _sign(draft, keyring, "timestamp")


def _sign(draft: Draft, keyring: Keyring, role: str) -> None:
    if sign(draft, keyring, (role,)):
        raise OtaError(
            "key",
            f"{draft.base.folder}: a key of {role} is needed for this, and is not here; give its folder with --keys",
        )


def puts(draft: Draft, audit_line: bytes) -> list[Put]:
    """All files of a sealed change in the order in which they may appear.

    A root that changes the keys of others comes last if these are signed for both, first if they cannot be.
    """
    first = draft.deduplicated()
    late = {"root", "timestamp"}
    inner = [_metadata(draft, role) for role in draft.changed if role not in late]
    inner.sort(key=lambda put: put.path.endswith(".snapshot.json"))
    root = [_metadata(draft, "root")] if "root" in draft.changed else []
    last = [Put(AUDIT, audit_line, append=True), _metadata(draft, "timestamp")]
    ordered = [*inner, *last, *root] if believed_by_old_root(draft) else [*inner, *root, *last]
    return [*first, *ordered, *draft.removals]


def _metadata(draft: Draft, role: str) -> Put:
    metadata = draft.changed[role]
    return Put(f"{METADATA}/{metadata_name(role, metadata.signed.version)}", metadata.to_bytes())
