"""A new repository: its folder, its keys, and version 1 of all metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, Targets, Timestamp

from edge_agent.durable import make_folder, sync_folder, write_durably
from edge_agent.errors import OtaError
from edge_agent.ota.publisher.draft import RINGS, Draft
from edge_agent.ota.publisher.journal import naming
from edge_agent.ota.publisher.keyring import Keyring, KnownKey
from edge_agent.ota.publisher.metadata import Published
from edge_agent.ota.publisher.settings import SETTINGS, Expiry

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
CONFIG = "config"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to found. ``offline``: folder for the private keys of root and targets, which are rarely needed."""

    families: tuple[str, ...]
    fleet: str
    rings: tuple[str, ...]
    root_keys: int
    root_threshold: int
    offline: Path | None


def prepare_folder(folder: Path, plan: Plan) -> None:
    """Make the folder with its settings. :raises OtaError: it is not empty, or the plan is wrong."""
    _check(plan)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OtaError("exists", f"{folder}: is not empty, expected a new folder; nothing was changed")
    with naming(folder):
        make_folder(folder.absolute())
        write_durably(folder / SETTINGS, _settings(plan).encode())
        sync_folder(folder)


def _check(plan: Plan) -> None:
    for name in (*plan.families, plan.fleet, *plan.rings):
        if _NAME.fullmatch(name) is None:
            raise OtaError("name", f"got {name!r}, expected 1 to 48 letters, digits, `_`, `.` or `-`")
    if not plan.families or not plan.rings:
        raise OtaError("name", "expected at least one family and one ring")
    if not 1 <= plan.root_threshold <= plan.root_keys <= 9:
        raise OtaError("key", f"got {plan.root_threshold} of {plan.root_keys} root keys, expected 1 of 1 up to 9 of 9")


def found(folder: Path, plan: Plan, keyring: Keyring, now: datetime, expiry: Expiry) -> Draft:
    """Make the keys, and a change that begins everything."""
    roots = [keyring.generate(f"root-{number + 1}", plan.offline) for number in range(plan.root_keys)]
    targets = keyring.generate("targets-1", plan.offline)
    online = keyring.generate("online-1")
    root = Root(version=1, expires=now, consistent_snapshot=True)
    for role, keys in {"root": roots, "targets": [targets], "snapshot": [online], "timestamp": [online]}.items():
        for key in keys:
            root.add_key(key.public, role)
    root.roles["root"].threshold = plan.root_threshold
    top, delegated = _delegations(plan, keyring, now)
    snapshot, timestamp = Snapshot(expires=now, meta={}), Timestamp(expires=now)
    for signed in (root, top, snapshot, timestamp, *delegated.values()):
        signed.version = 0
    lists = {"targets": top, **delegated}
    published = Published(
        folder,
        Metadata(root),
        Metadata(timestamp),
        Metadata(snapshot),
        {role: Metadata(signed) for role, signed in lists.items()},
    )
    draft = Draft(published, now, expiry)
    for role in published.roles():
        if role not in ("snapshot", "timestamp"):
            draft.edit(role)
    return draft


def _delegations(plan: Plan, keyring: Keyring, now: datetime) -> tuple[Targets, dict[str, Targets]]:
    delegations = Delegations({}, {})
    for role in (*(f"models-{family}" for family in plan.families), CONFIG, RINGS):
        delegate(delegations, role, keyring.generate(f"{role}-1"))
    return Targets(expires=now, delegations=delegations), {
        role: Targets(expires=now) for role in delegations.roles or {}
    }


def delegate(delegations: Delegations, role: str, key: KnownKey) -> None:
    """Let ``key`` sign a new role. The order counts: the role of one ring comes before that of all rings.

    Each role is delegated once, and ends the search for what is in its paths (TUF specification 1.0.33, 4.5).
    """
    roles = delegations.roles if delegations.roles is not None else {}
    delegations.keys[key.keyid] = key.public
    roles[role] = DelegatedRole(role, [key.keyid], 1, True, paths=[_paths(role)])
    ordered = dict(sorted(roles.items(), key=lambda item: (item[0] == RINGS, item[0])))
    delegations.roles = ordered


def _paths(role: str) -> str:
    kind, _, name = role.partition("-")
    return {"models": f"models/{name}/*", CONFIG: "config/*", RINGS: f"rings/{name or '*'}.json"}[kind]


def _settings(plan: Plan) -> str:
    rings = "".join(f"  {ring}: {{gateways: 0, soak: 1h}}\n" for ring in plan.rings)
    return (
        "# Settings of this publisher; docs/ota-publishing.md tells them all.\n"
        f"fleet: {plan.fleet}\n"
        "# In the order in which a release goes through them; gateways: how many are in it, 0: as many as report.\n"
        f"rings:\n{rings}"
        "# How gateways are told of news and their reports are read, as in their configuration:\n"
        "# uplinks: {broker: {type: mqtt, host: broker.example.com}}\n"
    )
