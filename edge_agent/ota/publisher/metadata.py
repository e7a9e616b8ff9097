"""The metadata of a repository as it is published: read from its folder, and believed only as far as it is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Delegations, Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from edge_agent.errors import OtaError

ISSUED = "x-edge-agent-issued"
"""Signed field of timestamp metadata: when it was signed (RFC 3339). Gateways take it as a moment that has passed."""
AUDIT_HEAD = "x-edge-agent-audit"
"""Signed field of timestamp metadata: hash of the newest entry of the publisher's audit log."""
REPO, METADATA, TARGETS = "repo", "repo/metadata", "repo/targets"
TOP = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True)
class Published:
    """What is published. ``targets``: the top role ``targets`` and all delegated ones, by role."""

    folder: Path
    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: dict[str, Metadata[Targets]]

    def of(self, role: str) -> Metadata[Any]:
        """Metadata of ``role``. :raises OtaError: there is no such role."""
        if role in ("root", "timestamp", "snapshot"):
            return cast("Metadata[Any]", getattr(self, role))
        if role not in self.targets:
            raise OtaError("role", f"{self.folder}: got role {role!r}, expected one of {', '.join(self.roles())}")
        return self.targets[role]

    def roles(self) -> tuple[str, ...]:
        """All roles, those at the top first."""
        return (*TOP, *(role for role in self.targets if role != "targets"))

    def read_target(self, role: str, path: str) -> bytes:
        """A target file, checked against its metadata. :raises OtaError: it is gone or was changed."""
        info = self.targets[role].signed.targets[path]
        file = target_file(self.folder, path, info.hashes["sha256"])
        try:
            raw = file.read_bytes()
            info.verify_length_and_hashes(raw)
        except (OSError, LengthOrHashMismatchError) as error:
            raise OtaError("damaged", f"{file}: {error}; take it back from a mirror or a back-up") from error
        return raw


def target_file(folder: Path, path: str, sha256: str) -> Path:
    """Where a target is with consistent snapshots (TUF specification 1.0.33, 6.2)."""
    parent, _, name = path.rpartition("/")
    return folder / TARGETS / parent / f"{sha256}.{name}"


def metadata_name(role: str, version: int) -> str:
    """File name of one version of the metadata of ``role``; only that of ``timestamp`` has no version in it."""
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"


def read_published(folder: Path) -> Published:
    """Read and verify all current metadata; expiry is no matter here.

    :raises OtaError: reason ``damaged``, a file is missing, unreadable or not signed as it must be: it is not built
        upon, lest a change by somebody else be signed.
    """
    metadata = folder / METADATA
    root = cast("Metadata[Root]", _read(metadata / metadata_name("root", _newest_root(metadata)), Root))
    _verified(metadata, root.signed, "root", root)
    timestamp = cast("Metadata[Timestamp]", _read(metadata / "timestamp.json", Timestamp))
    _verified(metadata, root.signed, "timestamp", timestamp)
    meta = timestamp.signed.snapshot_meta
    snapshot = cast(
        "Metadata[Snapshot]", _read(metadata / metadata_name("snapshot", meta.version), Snapshot, meta.hashes)
    )
    _verified(metadata, root.signed, "snapshot", snapshot)
    return Published(folder, root, timestamp, snapshot, dict(_read_targets(metadata, root.signed, snapshot.signed)))


def _read_targets(metadata: Path, root: Root, snapshot: Snapshot) -> Iterator[tuple[str, Metadata[Targets]]]:
    def read(role: str, delegator: Root | Targets) -> Metadata[Targets]:
        info = snapshot.meta.get(f"{role}.json")
        if info is None:
            raise OtaError("damaged", f"{metadata}: {role}.json is not in the snapshot; take a back-up")
        found = _read(metadata / metadata_name(role, info.version), Targets, info.hashes)
        _verified(metadata, delegator, role, found)
        return cast("Metadata[Targets]", found)

    top = read("targets", root)
    yield "targets", top
    for role in (top.signed.delegations or Delegations({}, {})).roles or {}:
        yield role, read(role, top.signed)


def _read(path: Path, kind: type, hashes: dict[str, str] | None = None) -> Metadata[Any]:
    try:
        raw = path.read_bytes()
        found: Metadata[Any] = Metadata.from_bytes(raw)
    except (OSError, DeserializationError) as error:
        raise OtaError(
            "damaged", f"{path}: cannot be read: {error}; take it back from a mirror or a back-up"
        ) from error
    if not isinstance(found.signed, kind):
        raise OtaError("damaged", f"{path}: got metadata of {found.signed.type}, expected {kind.__name__}")
    if hashes and hashlib.sha256(raw).hexdigest() != hashes.get("sha256"):
        raise OtaError(
            "damaged", f"{path}: it was changed after it was signed; take it back from a mirror or a back-up"
        )
    return found


def _verified(metadata: Path, delegator: Root | Targets, role: str, found: Metadata[Any]) -> None:
    try:
        delegator.verify_delegate(role, found.signed_bytes, found.signatures)
    except (RepositoryError, ValueError) as error:
        raise OtaError("damaged", f"{metadata}: {role}: {error}; take it back from a mirror or a back-up") from error


def _newest_root(metadata: Path) -> int:
    versions = [int(path.name.split(".")[0]) for path in metadata.glob("[0-9]*.root.json")]
    if not versions:
        raise OtaError("damaged", f"{metadata}: no root.json; make a repository with `edge-agent ota repo init`")
    return max(versions)
