"""What a gateway tells its publisher about updates: one JSON object, kept at the broker as the latest. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from edge_agent.errors import OtaError
from edge_agent.options import Options
from edge_agent.ota.ring import Name, Sha256, first_mistake
from edge_agent.ota.state import Outcome, Phase

MAX_REPORT_BYTES = 16_384


class InUse(Options):
    """A model by its name, version and bundle sha256 (None: it came with the agent)."""

    name: str = Field(max_length=64)
    version: str = Field(max_length=64)
    sha256: Sha256 | None = None


class Report(Options):
    """State of updates on one gateway.

    ``serial`` grows with each report of this gateway. ``outcome``: how the last release ended here. ``audit_head``:
    hash of the newest entry of the audit log, so that its tail cannot be cut off unnoticed. ``time_unconfirmed``: the
    clock is behind what is known to have passed. ``problem``: why no release can be installed now.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    fleet: Name
    ring: Name
    gateway: Name
    serial: int = Field(ge=0)
    time: AwareDatetime
    agent: str = Field(max_length=64)
    hardware: tuple[Name, ...] = ()
    phase: Phase
    release: Name | None = None
    counter: int = Field(default=0, ge=0)
    model: InUse | None = None
    previous: InUse | None = None
    outcome: Outcome | None = None
    problem: str | None = Field(default=None, max_length=1_000)
    metadata_expired: bool = False
    time_unconfirmed: bool = False
    audit_head: Sha256 | None = None

    def to_json(self) -> bytes:
        """UTF-8 JSON in one line."""
        return self.model_dump_json(by_alias=True).encode()


def parse_report(raw: bytes) -> Report:
    """Read what :meth:`Report.to_json` gave. :raises OtaError: it is none; the field is named."""
    if len(raw) > MAX_REPORT_BYTES:
        raise OtaError("report", f"status report: got {len(raw)} bytes, expected at most {MAX_REPORT_BYTES}")
    try:
        return Report.model_validate_json(raw)
    except ValidationError as error:
        raise OtaError("report", f"status report: {first_mistake(error)}") from error
