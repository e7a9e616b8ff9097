"""A change that still lacks signatures, kept as files in ``pending/`` until the people who must have signed it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from edge_agent.durable import sync_folder
from edge_agent.errors import OtaError
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.journal import Put, apply

PENDING = "pending"
_ABOUT = f"{PENDING}/pending.json"


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits: the action, what the audit log will say of it, and the roles whose metadata it changes."""

    action: str
    details: Mapping[str, Any]
    made: str
    roles: tuple[str, ...]


def park(draft: Draft, action: str, details: Mapping[str, Any]) -> None:
    """Keep ``draft`` for later, with the signatures that it has."""
    files = draft.deduplicated()
    about = {
        "action": action,
        "details": dict(details),
        "made": draft.now.isoformat(timespec="seconds"),
        "roles": list(draft.changed),
        "files": [put.path for put in files],
    }
    puts = [Put(f"{PENDING}/files/{number}", put.content) for number, put in enumerate(files)]
    puts += [Put(f"{PENDING}/{role}.json", metadata.to_bytes()) for role, metadata in draft.changed.items()]
    apply(draft.base.folder, [*puts, Put(_ABOUT, json.dumps(about, indent=1).encode() + b"\n")])


def read_pending(folder: Path) -> Pending | None:
    """What waits for signatures; None: nothing does."""
    plain = _about(folder)
    if plain is None:
        return None
    return Pending(plain["action"], plain["details"], plain["made"], tuple(plain["roles"]))


def resume(draft: Draft) -> Pending:
    """Take what waits into ``draft``.

    :raises OtaError: reason ``pending``: nothing waits, or something else was published over it.
    """
    folder = draft.base.folder
    plain, pending = _about(folder), read_pending(folder)
    if plain is None or pending is None:
        raise OtaError("pending", f"{folder}: nothing waits for signatures")
    for role in pending.roles:
        try:
            metadata: Metadata[Any] = Metadata.from_bytes((folder / PENDING / f"{role}.json").read_bytes())
        except (OSError, DeserializationError) as error:
            raise _discard(folder, f"{role}.json cannot be read: {error}") from error
        if metadata.signed.version != draft.next_version(role):
            raise _discard(folder, f"{role} was changed since")
        draft.changed[role] = metadata
    for number, path in enumerate(plain["files"]):
        draft.puts.append(Put(path, (folder / PENDING / "files" / str(number)).read_bytes()))
    return pending


def discard(folder: Path) -> None:
    """Forget what waits; what it says of itself goes first, so that half of it is never taken for the whole."""
    (folder / _ABOUT).unlink(missing_ok=True)
    sync_folder(folder)
    shutil.rmtree(folder / PENDING, ignore_errors=True)


def _about(folder: Path) -> Any:
    path = folder / _ABOUT
    if not path.exists():
        return None
    try:
        plain = json.loads(path.read_bytes())
        _ = plain["action"], plain["details"], plain["made"], plain["roles"], plain["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _discard(folder, f"pending.json cannot be read: {error}") from error
    return plain


def _discard(folder: Path, why: str) -> OtaError:
    return OtaError("pending", f"{folder / PENDING}: {why}; remove it with `edge-agent ota repo sign --discard`")
