"""What a gateway knows of updates, as one value: phases, floors, what is on trial. Pure.

The value is written whole at every step (:mod:`edge_agent.ota.state_store`), *before* the step takes effect; effects
(files in the model slots, the configuration overlay) are made again at the next start if power was lost between. So
every crash has one defined successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import AwareDatetime, Field

from edge_agent.options import Options
from edge_agent.ota.ring import MAX_DENIED, Name, Ring, Sha256

MAX_OWN_DENIED = 64
MAX_FLOORS = 16


class Phase(StrEnum):
    """Where the release that is being worked on stands."""

    IDLE = "idle"
    CHECKING = "checking"
    DOWNLOADING = "downloading"
    VERIFIED = "verified"
    PROBED = "probed"
    STAGED = "staged"
    SHADOW = "shadow"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    QUARANTINED = "quarantined"


class Result(StrEnum):
    """How a release ended on this gateway. ``refused``: it was not for this gateway, or may not be installed."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    HALTED = "halted"


class Outcome(Options):
    """The end of one release here. ``reason``: a fixed word; ``message``: a sentence for people."""

    release: Name
    counter: int = Field(ge=0)
    result: Result
    reason: str = Field(default="", max_length=64)
    message: str = Field(default="", max_length=1_000)
    time: AwareDatetime


class Floor(Options):
    """The newest ring file seen of a ring: nothing with a smaller counter, nothing else with the same, is taken."""

    counter: int = Field(ge=0)
    sha256: Sha256


class Denied(Options):
    """A file or bundle that is not tried again, and why."""

    sha256: Sha256
    reason: str = Field(max_length=64)


class InForce(Options):
    """What a gateway runs: bundle sha256 of the model (None: the universal one) and sha256 of the overlay, if any."""

    model: Sha256 | None = None
    config: Sha256 | None = None


class OtaState(Options):
    """Everything about updates that must survive a power cut.

    :attr:`Phase.CHECKING` is never written: a check has no effect, and a crash in it leads back to where it began.

    ``release``: the verified ring file that is being worked on, None when there is nothing to do. ``floors``: by ring,
    at most 16. ``time_floor_s``: a moment (s since 1970) that is known to have passed. ``starts``: starts of the
    process since the trial (or shadow) began. ``before``: what a rollback brings back, also after a commit.
    ``activate_at_s``: when the staged release is to begin (wall time), None: not decided yet.
    """

    serial: int = Field(default=0, ge=0)
    phase: Phase = Phase.IDLE
    release: Ring | None = None
    floors: Mapping[Name, Floor] = {}
    time_floor_s: float = Field(default=0.0, ge=0)
    activate_at_s: float | None = None
    starts: int = Field(default=0, ge=0)
    before: InForce | None = None
    denied: tuple[Denied, ...] = Field(default=(), max_length=MAX_OWN_DENIED + MAX_DENIED)
    config: Sha256 | None = Field(default=None, description="Overlay in use.")
    outcome: Outcome | None = None
    last_success_s: float | None = None
    expires_s: float | None = Field(default=None, description="When the metadata that were seen last expire.")
    image: str | None = Field(
        default=None, max_length=512, description="Container image that the newest ring file wants now."
    )
    origin: str | None = Field(default=None, max_length=16_384, description="Where the release is from, if sideloaded.")
