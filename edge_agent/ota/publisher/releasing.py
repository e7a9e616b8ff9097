"""What gateways are to run: models and configurations, given to rings, passed on, stopped, taken back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from edge_agent.errors import OtaError
from edge_agent.options import Options
from edge_agent.ota.publisher import releases
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.founding import CONFIG
from edge_agent.ota.publisher.journal import Put
from edge_agent.ota.publisher.package import read_config, read_model
from edge_agent.ota.publisher.releases import Release
from edge_agent.ota.ring import (
    FACTORY,
    MAX_DENIED,
    Activate,
    Activation,
    ConfigTarget,
    Limits,
    ModelTarget,
    Name,
    Ring,
    Sha256,
    Shadow,
    Trial,
)

Details = dict[str, Any]


class Wanted(Options):
    """For whom a release is, and how it is tried. ``rings``: none means the first one."""

    rings: tuple[Name, ...] = ()
    family: Name = "default"
    release: Name | None = Field(default=None, description="Default: name and version of the bundle.")
    name: Name | None = Field(default=None, description="Of a configuration; default: that of its file.")
    activate: Activate = Activate()
    shadow: Shadow = Shadow()
    trial: Trial = Trial()
    limits: Limits = Limits()
    hardware: tuple[Name, ...] = ()
    min_agent: str | None = None
    image: str | None = None
    denied: tuple[Sha256, ...] = ()


def publish(draft: Draft, bundle: Path, wanted: Wanted) -> Details:
    """A model for ``wanted.rings``; the configuration that they have stays."""
    role = f"models-{wanted.family}"
    if role not in draft.base.targets:
        families = ", ".join(name.removeprefix("models-") for name in draft.base.targets if name.startswith("models-"))
        raise OtaError(
            "role",
            f"got family {wanted.family!r}, expected one of {families}; for a new one:"
            f" `edge-agent ota repo add-key {role}-1 --role {role}`",
        )
    read, raw, target = read_model(bundle, wanted.family)
    known = draft.base.targets[role].signed.targets.get(target.path)
    if known is not None and known.hashes["sha256"] != target.sha256:
        raise OtaError(
            "exists",
            f"{target.path}: was published with another content; give the bundle a new version and build it again",
        )
    name = wanted.release or _as_name(f"{read.manifest.name}-{read.manifest.version}")
    release = _release(draft, name, wanted, target, _common(draft, wanted.rings, "config"))
    if known is None:
        draft.add_target(role, target.path, raw, {"bundle": target.bundle})
    return {**_give(draft, release, wanted), "bundle": target.bundle, "family": wanted.family}


def publish_config(draft: Draft, path: Path, wanted: Wanted) -> Details:
    """Sections of the configuration for ``wanted.rings``; the model that they have stays."""
    raw, target = read_config(path, wanted.name)
    name = wanted.release or _as_name(Path(target.path).stem)
    release = _release(draft, name, wanted, _common(draft, wanted.rings, "model"), target)
    if target.path not in draft.base.targets[CONFIG].signed.targets:
        draft.add_target(CONFIG, target.path, raw)
    return {**_give(draft, release, wanted), "config": target.sha256}


def promote(draft: Draft, release: str, from_ring: str, to_ring: str, activate: Activate | None) -> Details:
    """Give ``to_ring`` what ``from_ring`` has, if that is ``release``."""
    source, there = _in_force(draft, from_ring), draft.ring(to_ring)
    if source.release != release:
        raise OtaError(
            "release", f"{from_ring}: got release {source.release!r}, expected {release!r}; nothing was promoted"
        )
    if source.halt:
        raise OtaError("release", f"{from_ring}: {release!r} was halted there; publish another release")
    if there is not None and (there.release, there.halt) == (release, False):
        raise OtaError("release", f"{to_ring}: has {release!r} already")
    denied = _merged(source.denied, there.denied if there else ())
    change = {"ring": to_ring, "activate": activate or source.activate, "denied": denied}
    return {**_put(draft, [source.model_copy(update=change)]), "from": from_ring}


def halt(draft: Draft, ring: str, why: str) -> Details:
    """Nobody begins with the ring's release any more; who has it on trial goes back."""
    current = _in_force(draft, ring)
    if current.halt:
        raise OtaError("release", f"{ring}: {current.release!r} is halted already")
    return {**_put(draft, [current.model_copy(update={"halt": True})]), "why": why[:500]}


def activate(draft: Draft, ring: str, when: Activate) -> Details:
    """When gateways change over to what the ring has."""
    current = _in_force(draft, ring)
    if current.halt:
        raise OtaError("release", f"{ring}: {current.release!r} was halted; publish or roll back first")
    return {**_put(draft, [current.model_copy(update={"activate": when})]), "mode": when.mode.value}


def rollback(draft: Draft, ring: str, to: str, deny: bool, when: Activate | None, why: str) -> Details:
    """A new ring file that names what an older release named; not tried in shadow again, for speed."""
    current = _in_force(draft, ring)
    older = releases.of_ring(current).model_copy(update={"model": FACTORY, "release": FACTORY})
    if to != FACTORY:
        older = releases.find(draft.base.folder, to)
        _check_there(draft, older)
    denied = current.denied
    if deny and isinstance(current.model, ModelTarget) and current.model != older.model:
        denied = _merged(denied, (current.model.bundle,))
    _check_allowed(older, denied)
    again = older.model_copy(update={"shadow": Shadow(seconds=0, ticks=0)})
    file = _ring_file(draft, again, ring, when or Activate(mode=Activation.NOW), denied)
    return {**_put(draft, [file]), "instead_of": current.release, "why": why[:500]}


def _release(
    draft: Draft, name: str, wanted: Wanted, model: ModelTarget | str | None, config: ConfigTarget | None
) -> Release:
    """The release, told from all others: one name never means two things."""
    given = {field: getattr(wanted, field) for field in ("image", "hardware", "min_agent", "limits", "shadow", "trial")}
    release = Release.model_validate({"release": name, "made": draft.now, "model": model, "config": config, **given})
    if name == FACTORY:
        raise OtaError("release", f"got {FACTORY!r}, expected another name: that one stands for the built-in model")
    older = next((one for one in releases.known(draft.base.folder) if one.release == name), None)
    if older is not None and not older.same_as(release):
        raise OtaError("release", f"{name!r}: there is another release of that name; give one with --release")
    if older is None:
        draft.puts.append(Put(*releases.record(release)))
    return release


def _give(draft: Draft, release: Release, wanted: Wanted) -> Details:
    files = []
    for ring in wanted.rings:
        current = draft.ring(ring)
        denied = _merged(current.denied if current else (), wanted.denied)
        _check_allowed(release, denied)
        files.append(_ring_file(draft, release, ring, wanted.activate, denied))
    return _put(draft, files)


def _ring_file(draft: Draft, release: Release, ring: str, when: Activate, denied: tuple[str, ...]) -> Ring:
    plain = {name: getattr(release, name) for name in Release.model_fields if name != "made"}
    return Ring(ring=ring, counter=draft.next_counter(), issued=draft.now, activate=when, denied=denied, **plain)


def _put(draft: Draft, files: Sequence[Ring]) -> Details:
    counters = {}
    for file in files:
        counters[file.ring] = draft.next_counter()
        draft.put_ring(file.model_copy(update={"counter": counters[file.ring], "issued": draft.now}))
    return {"release": files[0].release, "rings": counters}


def _in_force(draft: Draft, ring: str) -> Ring:
    found = draft.ring(ring)
    if found is None:
        raise OtaError("release", f"{ring}: has no release yet; publish one with `edge-agent ota repo publish`")
    return found


def _common(draft: Draft, rings: Sequence[str], part: str) -> Any:
    """What all rings have now of ``part``; a release is the same in all of its rings."""
    found = [getattr(current, part) if current is not None else None for current in map(draft.ring, rings)]
    if any(one != found[0] for one in found):
        raise OtaError(
            "ring", f"{', '.join(rings)}: have not the same {part}; publish to one, and promote it to the others"
        )
    return found[0]


def _check_there(draft: Draft, release: Release) -> None:
    listed = {path for found in draft.base.targets.values() for path in found.signed.targets}
    gone = sorted(release.paths() - listed)
    if gone:
        raise OtaError("release", f"{release.release}: {gone[0]} was pruned; publish it again")


def _check_allowed(release: Release, denied: Sequence[str]) -> None:
    if isinstance(release.model, ModelTarget) and release.model.bundle in denied:
        raise OtaError(
            "denied", f"{release.release}: its model {release.model.bundle[:12]}… was denied for ever; build another"
        )


def _merged(*lists: Sequence[str]) -> tuple[str, ...]:
    """Each once, in order; the newest that there is room for."""
    return tuple(dict.fromkeys(sha256 for one in lists for sha256 in one))[-MAX_DENIED:]


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:64]
