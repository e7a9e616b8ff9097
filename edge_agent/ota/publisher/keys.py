"""Who may sign what: keys are added to roles and replaced; gateways follow by the chain of roots."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import Error as SigningError
from securesystemslib.signer import Key  # type: ignore[attr-defined]  # it has no __all__
from tuf.api.metadata import Delegations, Role

from edge_agent.errors import OtaError
from edge_agent.ota.publisher.draft import RINGS, Draft
from edge_agent.ota.publisher.founding import delegate
from edge_agent.ota.publisher.keyring import FILE, Keyring, KnownKey, public_from_pem
from edge_agent.ota.publisher.metadata import TOP
from edge_agent.ota.ring import ring_path

Details = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


def obtain(
    keyring: Keyring, name: str, *, into: Path | None = None, uri: str | None = None, public: Path | None = None
) -> KnownKey:
    """The key called ``name``: known, on a token (``hsm:``), elsewhere with its ``public`` half here, or a new one.

    :raises OtaError: it cannot be had so.
    """
    if name in keyring:
        return keyring.named(name)
    if public is not None:
        return keyring.add(name, uri or f"{FILE}:{name}.pem", _read_public(public))
    if uri is None:
        return keyring.generate(name, into)
    if uri.startswith("hsm:"):
        return keyring.add_from_token(name, uri)
    raise OtaError("key", f"{name}: {uri}: its public half is needed too: give it with --public FILE (PEM or JSON)")


def _read_public(path: Path) -> Key:
    try:
        raw = path.read_bytes()
        if raw.lstrip().startswith(b"{"):
            plain = json.loads(raw)
            return Key.from_dict(plain["keyid"], plain["public"])
    except (OSError, ValueError, KeyError, TypeError, SigningError) as error:
        raise OtaError("key", f"{path}: cannot be read as a public key: {error}") from error
    return public_from_pem(raw)


def add(draft: Draft, get: Callable[[], KnownKey], role: str, threshold: int | None, rings: Sequence[str]) -> Details:
    """Let a key sign ``role``; ``threshold``: how many of the role's keys must sign from now on.

    ``get``: gives the key, once it is known that the role can be.
    """
    _check_role(draft, role, rings)
    key = get()
    if role in TOP:
        draft.root().add_key(key.public, role)
        found: Role = draft.root().roles[role]
    else:
        delegations = _delegations(draft)
        if role in (delegations.roles or {}):
            draft.targets("targets").add_key(key.public, role)
        else:
            _begin(draft, delegations, role, key)
        found = (delegations.roles or {})[role]
    found.threshold = _threshold(role, threshold or found.threshold, len(found.keyids))
    if threshold is not None:
        _renew(draft, role)
    return {"role": role, "key": key.name, "keyid": key.keyid, "threshold": found.threshold, "keys": len(found.keyids)}


def rotate(draft: Draft, role: str, old: KnownKey, get: Callable[[], KnownKey]) -> Details:
    """Replace ``old`` by another key in ``role``; all that ``old`` has signed there is signed anew."""
    if role not in draft.base.roles():
        raise OtaError("role", f"got role {role!r}, expected one of {', '.join(draft.base.roles())}")
    owner = draft.root() if role in TOP else draft.targets("targets")
    keyids = list(owner.get_delegated_role(role).keyids)
    if old.keyid not in keyids:
        raise OtaError("key", f"{role}: got {old.name!r}, expected one of the keys that sign for it")
    new = get()
    if new.keyid in keyids:
        raise OtaError("key", f"{role}: {new.name!r} signs for it already; give another key")
    owner.add_key(new.public, role)
    owner.revoke_key(old.keyid, role)
    _renew(draft, role)
    return {"role": role, "old": old.name, "new": new.name, "keyid": new.keyid}


def _delegations(draft: Draft) -> Delegations:
    delegations = draft.targets("targets").delegations
    assert delegations is not None, "every repository that was founded here delegates"
    return delegations


def _check_role(draft: Draft, role: str, rings: Sequence[str]) -> None:
    """:raises OtaError: reason ``role``: it neither exists nor can be delegated."""
    if role in draft.base.roles():
        return
    kind, _, name = role.partition("-")
    if kind == RINGS and name and name not in rings:
        raise OtaError("role", f"got role {role!r}, expected rings- and one of {', '.join(rings)}")
    if kind not in ("models", RINGS) or _NAME.fullmatch(name) is None:
        raise OtaError(
            "role", f"got role {role!r}, expected one of {', '.join(draft.base.roles())}, models-FAMILY or rings-RING"
        )


def _begin(draft: Draft, delegations: Delegations, role: str, key: KnownKey) -> None:
    delegate(delegations, role, key)
    fresh = draft.new_role(role)
    path = ring_path(role.removeprefix(f"{RINGS}-"))
    if role.startswith(RINGS) and path in draft.base.targets[RINGS].signed.targets:
        fresh.targets[path] = draft.targets(RINGS).targets.pop(path)


def _renew(draft: Draft, role: str) -> None:
    """Metadata that was signed by the old keys is signed again; the timestamp always is."""
    if role not in ("root", "timestamp"):
        draft.edit(role)


def _threshold(role: str, wanted: int, keys: int) -> int:
    if not 1 <= wanted <= keys:
        raise OtaError("key", f"{role}: got a threshold of {wanted}, expected 1 to {keys}, as many as it has keys")
    return wanted
