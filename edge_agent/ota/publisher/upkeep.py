"""What a repository needs from time to time: new signatures, old things removed, and a look at how it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

from edge_agent.errors import OtaError
from edge_agent.ota.publisher import audit, releases
from edge_agent.ota.publisher.draft import RINGS, Draft
from edge_agent.ota.publisher.journal import Put
from edge_agent.ota.publisher.keyring import Keyring
from edge_agent.ota.publisher.metadata import AUDIT_HEAD, METADATA, TARGETS, TOP, target_file
from edge_agent.ota.publisher.pending import Pending
from edge_agent.ota.publisher.settings import RepoOptions

LINGER_S = 86_400.0
"""How long metadata that was replaced stays, for gateways that are in the middle of a look."""


def refresh(draft: Draft, keyring: Keyring, wanted: Collection[str], pending: Collection[str]) -> dict[str, Any]:
    """Renew the roles ``wanted``, and those in the second half of their life that can be signed here.

    The timestamp is renewed by every action. Root is renewed only when it is asked for.
    """
    strange = sorted(set(wanted) - set(draft.base.roles()))
    if strange:
        raise OtaError("role", f"got role {strange[0]!r}, expected one of {', '.join(draft.base.roles())}")
    renewed = []
    for role in draft.base.roles():
        if role == "timestamp" or role in pending:
            continue
        if role in wanted or (role != "root" and _is_old(draft, role) and can_sign(draft, keyring, role)):
            draft.edit(role)
            renewed.append(role)
    return {"renewed": [*renewed, "timestamp"]}


def _is_old(draft: Draft, role: str) -> bool:
    left: timedelta = draft.base.of(role).signed.expires - draft.now
    return left.total_seconds() < draft.expiry.seconds(role) / 2


def can_sign(draft: Draft, keyring: Keyring, role: str) -> bool:
    """Whether enough keys of ``role`` open here; what cannot be opened is no reason to fail."""
    found = _role(draft, role)
    opened = 0
    for keyid in found.keyids:
        if opened < found.threshold and keyring.can_sign(keyid):
            try:
                keyring.signer(keyid)
                opened += 1
            except OtaError:
                continue
    return opened >= int(found.threshold)


def _role(draft: Draft, role: str) -> Any:
    delegator = draft.base.root if role in TOP else draft.base.targets["targets"]
    return delegator.signed.get_delegated_role(role)


def prune(draft: Draft, keep: int) -> dict[str, Any]:
    """Take what nobody needs any more out of the lists, and then away."""
    if keep < 0:
        raise OtaError("number", f"got {keep}, expected to keep 0 releases or more")
    rings = list(draft.rings())
    remembered = releases.known(draft.base.folder)
    kept = {ring.release for ring in rings} | {one.release for one in remembered[len(remembered) - keep :]}
    needed = {path for ring in rings for path in releases.of_ring(ring).paths()}
    needed |= {path for one in remembered if one.release in kept for path in one.paths()}
    gone = _unlist(draft, needed)
    old = [one for one in remembered if one.release not in kept]
    draft.removals += [Put(releases.record(one)[0], None) for one in old]
    draft.removals += [Put(path, None) for path in _unreferred(draft)]
    return {"targets": gone, "releases": [one.release for one in old], "files": len(draft.removals) - len(old)}


def _unlist(draft: Draft, needed: set[str]) -> list[str]:
    gone = []
    for role, found in draft.base.targets.items():
        for path in sorted(set(found.signed.targets) - needed):
            if not role.startswith(RINGS):
                del draft.targets(role).targets[path]
                gone.append(path)
    return gone


def _unreferred(draft: Draft) -> Iterator[str]:
    folder = draft.base.folder
    listed = {
        target_file(folder, path, info.hashes["sha256"])
        for role in draft.base.targets
        for path, info in draft.seen(role).signed.targets.items()
    }
    for file in sorted((folder / TARGETS).rglob("*")):
        if file.is_file() and file not in listed:
            yield str(file.relative_to(folder))
    current = {f"{draft.base.of(role).signed.version}.{role}.json" for role in draft.base.roles()}
    for file in sorted((folder / METADATA).glob("[0-9]*.json")):
        replaced_s = draft.now.timestamp() - file.stat().st_mtime
        if file.name not in current and not file.name.endswith(".root.json") and replaced_s > LINGER_S:
            yield str(file.relative_to(folder))


def status(draft: Draft, settings: RepoOptions, pending: Pending | None, keyring: Keyring) -> dict[str, Any]:
    """Everything worth knowing as plain values; ``warnings``: what somebody must do something about soon."""
    roles = {role: _role_status(draft, role, keyring) for role in draft.base.roles()}
    anchor = draft.base.timestamp.signed.unrecognized_fields.get(AUDIT_HEAD)
    rings = {name: _ring_status(draft, name) for name in settings.rings}
    return {
        "fleet": settings.fleet,
        "roles": roles,
        "rings": rings,
        "releases": [one.release for one in releases.known(draft.base.folder)],
        "pending": None if pending is None else {"action": pending.action, "made": pending.made, **pending.details},
        "audit_entries": audit.check(draft.base.folder / audit.AUDIT, anchor),
        "warnings": list(_warnings(draft, roles, pending)),
    }


def _role_status(draft: Draft, role: str, keyring: Keyring) -> dict[str, Any]:
    signed, found = draft.base.of(role).signed, _role(draft, role)
    keys = [keyring.by_id(keyid) for keyid in found.keyids]
    return {
        "version": signed.version,
        "expires": signed.expires.isoformat(),
        "seconds_left": (signed.expires - draft.now).total_seconds(),
        "threshold": found.threshold,
        "keys": [key.name if key else keyid[:12] for key, keyid in zip(keys, found.keyids, strict=True)],
    }


def _ring_status(draft: Draft, name: str) -> dict[str, Any] | None:
    ring = draft.ring(name)
    if ring is None:
        return None
    model = ring.model if ring.model is None or isinstance(ring.model, str) else ring.model.path
    return {
        "release": ring.release,
        "counter": ring.counter,
        "issued": ring.issued.isoformat(),
        "model": model,
        "config": ring.config.path if ring.config else None,
        "activate": ring.activate.mode.value,
        "halt": ring.halt,
        "denied": len(ring.denied),
    }


def _warnings(draft: Draft, roles: dict[str, Any], pending: Pending | None) -> Iterator[str]:
    for role, found in roles.items():
        left_s = found["seconds_left"]
        if left_s < draft.expiry.seconds(role) / 3:
            when = "has expired" if left_s <= 0 else f"expires in {left_s / 86_400:.1f} d"
            name = f" {role}" if role in ("root", "targets") else ""
            yield f"{role} {when} ({found['expires']}), then gateways take nothing: `edge-agent ota repo refresh{name}`"
    if pending is not None:
        yield f"{pending.action!r} waits for signatures since {pending.made}: `edge-agent ota repo sign`"
