"""Options of the decision: what the user is willing to be disturbed by."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from edge_agent.decision.maintenance import MaintenanceOptions
from edge_agent.options import Duration, Options, Rate, format_duration


class DecisionOptions(Options):
    """A budget of false alarms rather than a threshold; thresholds follow from calibrated score tails."""

    false_alarms: Rate = Field(
        default=1 / 604_800, description="False alarms this gateway may raise, such as `1 per week`."
    )
    detect_within: Duration = Field(
        default=60.0, description="How soon an incident should be open; longer lets weak evidence add up."
    )
    close_after: Duration = Field(
        default=30.0, description="An incident closes when everything was normal for this long."
    )
    calibration_ticks: int = Field(
        default=600, ge=100, le=100_000, description="Normal ticks needed before a decision is made (warm-up)."
    )
    quality_after: Duration = Field(
        default=10.0, description="A data-quality finding becomes an incident when it has lasted this long."
    )
    contributors: int = Field(default=8, ge=1, le=100, description="Sensors named in an incident, worst first.")
    min_duration: Duration = Field(
        default=0.0,
        description="An incident that is over sooner is never told; less than `detect_within`. "
        "0: told at once, which two unusual ticks of three are needed for anyway.",
    )
    cooldown: Duration = Field(
        default=300.0,
        description="Trouble at the same sensors within this time after an incident has closed is that incident again.",
    )
    flap_after: int = Field(
        default=4,
        ge=0,
        le=1000,
        description="An incident that opens more often than this within `flap_within` is told to be flapping, "
        "and then nothing more until it is calm. 0: never.",
    )
    flap_within: Duration = Field(
        default=1800.0, description="Time in which openings are counted, and without any of them, until it is calm."
    )
    maintenance: tuple[MaintenanceOptions, ...] = Field(
        default=(),
        description="Announced work on the plant: incidents in it are suppressed, and nothing is learned from it.",
    )

    @model_validator(mode="after")
    def _told_in_time(self) -> Self:
        if self.min_duration and self.min_duration >= self.detect_within:
            raise ValueError(
                f"min_duration is {format_duration(self.min_duration)} and detect_within is "
                f"{format_duration(self.detect_within)}, expected min_duration below it"
            )
        names = [window.name for window in self.maintenance]
        if len(set(names)) < len(names):
            raise ValueError(f"maintenance: got the names {', '.join(names)}, expected each of them once")
        return self
