"""A change that is being prepared: new metadata and target files on top of what is published; nothing is written."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from edge_agent.errors import OtaError
from edge_agent.ota.publisher.journal import Put
from edge_agent.ota.publisher.metadata import Published, target_file
from edge_agent.ota.publisher.settings import Expiry
from edge_agent.ota.ring import MAX_RING_BYTES, Ring, parse_ring, ring_path

RINGS = "rings"


@dataclass
class Draft:
    """``changed``: metadata that gets a new version, by role; ``puts``: files that go out before all metadata;
    ``removals``: what goes when nothing refers to it any more; ``counter_from``: smallest counter of new ring files."""

    base: Published
    now: datetime
    expiry: Expiry
    counter_from: int = 1
    changed: dict[str, Metadata[Any]] = field(default_factory=dict)
    puts: list[Put] = field(default_factory=list)
    removals: list[Put] = field(default_factory=list)
    _rings: dict[str, Ring] = field(default_factory=dict)

    def root(self) -> Root:
        """Root metadata, to be changed."""
        return cast(Root, self.edit("root"))

    def targets(self, role: str) -> Targets:
        """Metadata of ``targets`` or of a delegated role, to be changed."""
        return cast(Targets, self.edit(role))

    def seen(self, role: str) -> Metadata[Any]:
        """Metadata of ``role`` as it would be, to be looked at only."""
        return self.changed.get(role) or self.base.of(role)

    def edit(self, role: str) -> Any:
        """Metadata of any role, to be changed: its next version, unsigned, with a new expiry."""
        if role not in self.changed:
            fresh = Metadata(copy.deepcopy(self.base.of(role).signed))
            fresh.signed.version += 1
            self.changed[role] = fresh
        signed = self.changed[role].signed
        signed.expires = self.until(role)
        self.changed[role].signatures.clear()
        return signed

    def new_role(self, role: str) -> Targets:
        """The first, empty metadata of a role that is delegated now."""
        self.changed[role] = Metadata(Targets(version=1, expires=self.until(role)))
        return cast(Targets, self.changed[role].signed)

    def next_version(self, role: str) -> int:
        """The version that new metadata of ``role`` has, if nothing else is published before."""
        return int(self.base.of(role).signed.version) + 1 if role in self.base.roles() else 1

    def until(self, role: str) -> datetime:
        """When metadata of ``role`` that is signed now expires."""
        return (self.now + timedelta(seconds=self.expiry.seconds(role))).replace(microsecond=0)

    def add_target(self, role: str, path: str, raw: bytes, custom: dict[str, Any] | None = None) -> None:
        """Put a target into the list of ``role``; it replaces what was there under the path."""
        digest = hashlib.sha256(raw).hexdigest()
        extra = {"custom": custom} if custom else None
        self.targets(role).targets[path] = TargetFile(len(raw), {"sha256": digest}, path, extra)
        self.puts.append(Put(str(target_file(self.base.folder, path, digest).relative_to(self.base.folder)), raw))

    def ring_role(self, ring: str) -> str:
        """The role that signs the file of ``ring``: one of its own, or that of all rings."""
        delegations = self.seen("targets").signed.delegations
        own = f"{RINGS}-{ring}"
        return own if own in delegations.roles else RINGS

    def ring(self, ring: str) -> Ring | None:
        """The file of ``ring`` as it would be; None while it has none."""
        if ring in self._rings:
            return self._rings[ring]
        role = next((role for role in (f"{RINGS}-{ring}", RINGS) if self._published(role, ring)), None)
        return None if role is None else parse_ring(self.base.read_target(role, ring_path(ring)), ring)

    def _published(self, role: str, ring: str) -> bool:
        found = self.base.targets.get(role)
        return found is not None and ring_path(ring) in found.signed.targets

    def rings(self) -> Iterator[Ring]:
        """All ring files as they would be."""
        lists = [found.signed.targets for role, found in self.base.targets.items() if role.startswith(RINGS)]
        paths = [path for targets in lists for path in targets]
        names = {path.removeprefix(f"{RINGS}/").removesuffix(".json") for path in paths} | set(self._rings)
        for name in sorted(names):
            found = self.ring(name)
            if found is not None:
                yield found

    def next_counter(self) -> int:
        """One more than the largest counter of any ring file. :raises OtaError: gateways would refuse it."""
        counter = max((self.counter_from - 1, *(ring.counter for ring in self.rings()))) + 1
        if counter > self.now.timestamp():
            raise OtaError(
                "counter",
                f"{self.base.folder}: counter {counter} is not usable yet: gateways take none beyond the"
                f" {self.now.timestamp():.0f} s since 1970; is `counter_from` right?",
            )
        return counter

    def put_ring(self, ring: Ring) -> None:
        """Give a ring its new file. :raises OtaError: a gateway would not read it."""
        raw = ring.to_json()
        if parse_ring(raw, ring.ring) != ring or len(raw) > MAX_RING_BYTES:
            raise OtaError("ring_file", f"{ring.ring}: its file does not read back as it was meant; {len(raw)} bytes")
        self._rings[ring.ring] = ring
        self.add_target(self.ring_role(ring.ring), ring_path(ring.ring), raw)

    def deduplicated(self) -> list[Put]:
        """Files to put in place; of those with one path the last."""
        return list({put.path: put for put in self.puts}.values())
