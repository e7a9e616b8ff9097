"""A repository on a stick: complete for one ring, nothing else in it, signed for longer than the one on the web.

It takes the next version of what it signs anew, and the web the one after that. So a gateway goes from the one to the
other and on, and neither looks to it like an attack by rollback.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent.durable import make_folder, sync_folder, write_durably
from edge_agent.errors import OtaError
from edge_agent.ota.publisher import releases
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.keyring import Keyring
from edge_agent.ota.publisher.metadata import METADATA, metadata_name, target_file
from edge_agent.ota.publisher.settings import DAY_S, Expiry
from edge_agent.ota.publisher.signing import sign
from edge_agent.ota.publisher.upkeep import can_sign
from edge_agent.ota.ring import ring_path

MAX_DAYS = 366.0


def prepare(draft: Draft, keyring: Keyring, ring: str, days: float, pending: Collection[str]) -> dict[str, Any]:
    """Sign anew what would not hold for ``days`` and can be signed here, snapshot and timestamp in any case.

    ``until``, in what it gives: when the first of the stick's metadata expires.
    """
    if not 0 < days <= MAX_DAYS:
        raise OtaError("number", f"got {days:g} days, expected more than 0 and at most {MAX_DAYS:g}")
    current = draft.ring(ring)
    if current is None:
        raise OtaError("release", f"{ring}: has no release yet, so there is nothing to carry")
    draft.expiry = Expiry.model_construct(None, **dict.fromkeys(Expiry.model_fields, days * DAY_S))
    wanted_until = draft.until("timestamp")
    roles = _roles(draft, ring)
    for role in roles:
        if draft.base.of(role).signed.expires < wanted_until and role not in pending and can_sign(draft, keyring, role):
            draft.edit(role)
    draft.edit("snapshot")
    sign(draft, keyring)
    until: datetime = min(draft.seen(role).signed.expires for role in ("root", "snapshot", *roles))
    return {"ring": ring, "release": current.release, "until": min(until, wanted_until).isoformat()}


def _roles(draft: Draft, ring: str) -> list[str]:
    """The roles that are asked for what the ring needs."""
    paths = {ring_path(ring)} | _needed(draft, ring)
    found = [role for role, metadata in draft.base.targets.items() if paths & set(metadata.signed.targets)]
    return ["targets", *found]


def _needed(draft: Draft, ring: str) -> set[str]:
    current = draft.ring(ring)
    return releases.of_ring(current).paths() if current is not None else set()


def supersede(draft: Draft, stick: Draft) -> None:
    """Let the web's metadata be newer than that of the stick."""
    for role, metadata in stick.changed.items():
        draft.edit(role).version = metadata.signed.version + 1


def files(stick: Draft, ring: str) -> dict[str, bytes]:
    """All files of the stick, by path below the repository."""
    folder = stick.base.folder
    found = {f"metadata/{path.name}": path.read_bytes() for path in sorted((folder / METADATA).glob("*.root.json"))}
    for role in ("timestamp", "snapshot", *_roles(stick, ring)):
        metadata = stick.seen(role)
        raw = metadata.to_bytes()
        if role not in stick.changed:
            raw = (folder / METADATA / metadata_name(role, metadata.signed.version)).read_bytes()
        found[f"metadata/{metadata_name(role, metadata.signed.version)}"] = raw
    for path in (ring_path(ring), *sorted(_needed(stick, ring))):
        role = next(role for role, one in stick.base.targets.items() if path in one.signed.targets)
        file = target_file(folder, path, stick.base.targets[role].signed.targets[path].hashes["sha256"])
        found[str(file.relative_to(folder / "repo"))] = stick.base.read_target(role, path)
    return found


def check_out(out: Path) -> None:
    """:raises OtaError: something is there already."""
    if out.exists() and (not out.is_dir() or out.suffix == ".tar" or any(out.iterdir())):
        raise OtaError("exists", f"{out}: exists already, expected a new folder or a new .tar; nothing was changed")


def write(out: Path, found: Mapping[str, bytes], moment: datetime) -> None:
    """Write the stick: a plain tar if ``out`` ends so, else a folder. The timestamp comes last."""
    ordered = sorted(found.items(), key=lambda item: (item[0] == "metadata/timestamp.json", item[0]))
    try:
        make_folder(out.absolute().parent)
        if out.suffix == ".tar":
            temporary = out.with_name(f".{out.name}.new")
            write_durably(temporary, _tar(ordered, moment))
            temporary.replace(out)
            sync_folder(out.absolute().parent)
            return
        for path, raw in ordered:
            make_folder((out / path).absolute().parent)
            write_durably(out / path, raw)
            sync_folder((out / path).parent)
    except OSError as error:
        raise OtaError("disk", f"{out}: {error.strerror or error}; make room and try again") from error


def _tar(ordered: list[tuple[str, bytes]], moment: datetime) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, raw in ordered:
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(raw), 0o644, int(moment.timestamp())
            archive.addfile(member, io.BytesIO(raw))
    return file.getvalue()
