"""What the publisher remembers of a release, so that it can be promoted, brought back, and told from others.

One file for each, ``releases/<release>.json``: the parts of the ring file that do not depend on ring and moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from edge_agent.errors import OtaError
from edge_agent.options import Options
from edge_agent.ota.ring import ConfigTarget, Limits, ModelTarget, Name, Ring, Shadow, Trial, first_mistake

RELEASES = "releases"


class Release(Options):
    """A release: what is to run, for whom, and how it is tried."""

    release: Name
    made: AwareDatetime
    model: ModelTarget | Literal["factory"] | None = None
    config: ConfigTarget | None = None
    image: str | None = None
    hardware: tuple[Name, ...] = ()
    min_agent: str | None = None
    limits: Limits = Limits()
    shadow: Shadow = Shadow()
    trial: Trial = Trial()

    def same_as(self, other: Release) -> bool:
        """Whether both mean the same, whenever they were made."""
        return self == other.model_copy(update={"made": self.made})

    def paths(self) -> set[str]:
        """The targets it needs."""
        return {target.path for target in (self.model, self.config) if target is not None and target != "factory"}


def of_ring(ring: Ring) -> Release:
    """The release that a ring file names."""
    plain = {name: getattr(ring, name) for name in Release.model_fields if name != "made"}
    return Release(made=ring.issued, **plain)


def record(release: Release) -> tuple[str, bytes]:
    """Path below the publisher's folder, and content."""
    return f"{RELEASES}/{release.release}.json", release.model_dump_json(indent=1).encode() + b"\n"


def known(folder: Path) -> list[Release]:
    """All releases, oldest first."""
    found = [_read(path) for path in (folder / RELEASES).glob("*.json")]
    return sorted(found, key=lambda release: (release.made, release.release))


def find(folder: Path, release: str) -> Release:
    """:raises OtaError: reason ``release``, there is none of that name."""
    path = folder / RELEASES / f"{release}.json"
    if "/" in release or not path.is_file():
        names = ", ".join(one.release for one in known(folder)[-8:]) or "none yet"
        raise OtaError("release", f"got {release!r}, expected a release that is kept here: {names}")
    return _read(path)


def _read(path: Path) -> Release:
    try:
        return Release.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = first_mistake(error) if isinstance(error, ValidationError) else str(error)
        raise OtaError("damaged", f"{path}: {why}; take it back from a back-up") from error
