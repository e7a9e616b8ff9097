"""Options of the decision: what the user is willing to be disturbed by."""

from __future__ import annotations

from pydantic import Field

from edge_agent.options import Duration, Options, Rate


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
