"""A repository of updates in a folder, with all its keys at hand: what a publisher makes, and what a thief could."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW_S = NOW.timestamp()
MODELS = "models-pumps"
_DELEGATED = {MODELS: "models/pumps/*", "config": "config/*", "rings": "rings/*"}
_TOP = ("root", "targets", "snapshot", "timestamp")


class Repository:
    """``metadata[role]`` may be changed at will; :meth:`put` signs and writes one role, :meth:`publish` all that a
    release needs, with the keys in ``signers[role]``."""

    def __init__(self, folder: Path, now: datetime = NOW) -> None:
        self.folder = folder
        self.now = now
        self.signers = {role: [CryptoSigner.generate_ed25519()] for role in (*_TOP, *_DELEGATED)}
        self.signers["root"] += [CryptoSigner.generate_ed25519() for _ in range(2)]
        self.signers[MODELS] += [CryptoSigner.generate_ed25519()]
        far, near = now + timedelta(days=365), now + timedelta(days=7)
        root = Root(expires=far, consistent_snapshot=True, roles={role: Role([], 1) for role in _TOP})
        for role in _TOP:
            for signer in self.signers[role]:
                root.add_key(signer.public_key, role)
        root.roles["root"].threshold = 2
        targets = Targets(expires=far, delegations=self._delegations())
        self.metadata: dict[str, Metadata] = {
            "root": Metadata(root),
            "timestamp": Metadata(Timestamp(expires=now + timedelta(days=1), snapshot_meta=MetaFile(1))),
            "snapshot": Metadata(Snapshot(expires=near)),
            "targets": Metadata(targets),
            **{role: Metadata(Targets(expires=near)) for role in _DELEGATED},
        }
        self.counter = 0
        for part in ("metadata", "targets"):
            (folder / part).mkdir(parents=True)
        self.put("root")
        self.first_root = (folder / "metadata" / "1.root.json").read_bytes()

    def _delegations(self) -> Delegations:
        keys: dict[str, Key] = {}
        roles = {}
        for role, pattern in _DELEGATED.items():
            keys.update({signer.public_key.keyid: signer.public_key for signer in self.signers[role]})
            ids = [signer.public_key.keyid for signer in self.signers[role]]
            roles[role] = DelegatedRole(role, ids, len(ids), terminating=True, paths=[pattern])
        return Delegations(keys, roles)

    def add(self, role: str, path: str, content: bytes) -> TargetFile:
        """Name a target in the metadata of ``role`` and put its file where it belongs."""
        target = TargetFile.from_data(path, content, ["sha256"])
        self.metadata[role].signed.targets[path] = target
        folder, _, name = path.rpartition("/")
        place = self.folder / "targets" / folder / f"{target.hashes['sha256']}.{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return target

    def release(self, model: bytes, ring: str = "stable") -> dict:
        """Publish a model and a ring file that names it."""
        self.counter += 1
        path = f"models/pumps/model-{self.counter}.tar"
        target = self.add(MODELS, path, model)
        named = {"path": path, "sha256": target.hashes["sha256"], "bytes": len(model)}
        body = {"schema": 1, "ring": ring, "counter": self.counter, "release": f"r{self.counter}", "model": named}
        body["model"]["bundle"] = "0" * 64
        body["issued"] = self.now.isoformat()
        self.add("rings", f"rings/{ring}.json", json.dumps(body).encode())
        self.publish()
        return body

    def publish(self) -> None:
        """New versions of everything but the root."""
        for role in ("targets", *_DELEGATED):
            self.bump(role)
        self.publish_online()

    def publish_online(self) -> None:
        """New versions of what the keys on the server can sign."""
        self.bump("snapshot")
        issued = self.now.isoformat().replace("+00:00", "Z")
        self.metadata["timestamp"].signed.unrecognized_fields["x-edge-agent-issued"] = issued
        self.bump("timestamp")

    def bump(self, role: str) -> None:
        """Sign and write the next version of one role."""
        self.metadata[role].signed.version += 1
        self.put(role)

    def put(self, role: str, signers: list[CryptoSigner] | None = None, name: str | None = None) -> bytes:
        """Sign and write one role as it is now, and note its version where the next role has to say it."""
        document = self.metadata[role]
        document.signatures.clear()
        for signer in self.signers[role] if signers is None else signers:
            document.sign(signer, append=True)
        content = document.to_bytes(JSONSerializer(compact=True))
        version = document.signed.version
        (self.folder / "metadata" / (name or self.name_of(role, version))).write_bytes(content)
        if role == "snapshot":
            self.metadata["timestamp"].signed.snapshot_meta.version = version
        elif role not in ("root", "timestamp"):
            self.metadata["snapshot"].signed.meta[f"{role}.json"] = MetaFile(version)
        return content

    @staticmethod
    def name_of(role: str, version: int) -> str:
        return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"

    def file_of(self, role: str) -> Path:
        """Where the current version of ``role`` is."""
        return self.folder / "metadata" / self.name_of(role, self.metadata[role].signed.version)

    def file_of_target(self, named: dict) -> Path:
        folder, _, name = named["path"].rpartition("/")
        return self.folder / "targets" / folder / f"{named['sha256']}.{name}"

    def saved(self, into: Path) -> tuple[Path, dict]:
        """All of it as it is now, to come back to with :meth:`restore`."""
        shutil.copytree(self.folder, into)
        return into, copy.deepcopy(self.metadata)

    def restore(self, saved: tuple[Path, dict]) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(saved[0], self.folder)
        self.metadata = copy.deepcopy(saved[1])

    def rotate(self, role: str) -> CryptoSigner:
        """Replace the key of a top-level role by a new root; the old key."""
        old, new = self.signers[role][0], CryptoSigner.generate_ed25519()
        root = self.metadata["root"].signed
        root.revoke_key(old.public_key.keyid, role)
        root.add_key(new.public_key, role)
        self.signers[role] = [new]
        self.bump("root")
        return old


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
