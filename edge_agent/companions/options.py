"""Options of the companions."""

from __future__ import annotations

from pydantic import Field

from edge_agent.options import Options


class CompanionOptions(Options):
    """Linear detectors that the gateway fits to its own history and that are heard beside the model."""

    enabled: bool = Field(default=True, description="Fit companions and combine their scores with the model's.")
    max_sensors: int = Field(
        default=2_000,
        ge=1,
        le=10_000,
        description="With more sensors than this the model works alone: companions take about 35 kB a sensor.",
    )
    remember: int = Field(
        default=20_000,
        ge=500,
        le=10_000_000,
        description="Normal ticks after which what was learned has faded to about a third.",
    )
