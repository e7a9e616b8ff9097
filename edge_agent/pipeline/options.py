"""Options of the tick and the model."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from edge_agent.options import Duration, Options


class TickOptions(Options):
    """The beat of the detector."""

    period: Duration = Field(default=1.0, description="Time between two looks at all sensors, 10ms to 1h.")
    lateness: Duration = Field(
        default=0.0, description="How long a tick waits for readings that carry an earlier source time."
    )

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if not 0.01 <= self.period <= 3600:
            raise ValueError(f"period is {self.period:g}s, expected 10ms to 1h")
        if self.lateness > 600:
            raise ValueError(f"lateness is {self.lateness:g}s, expected at most 10m")
        return self


class ModelOptions(Options):
    """Which model scores the sensors."""

    bundle: str = Field(
        default="universal",
        description="`universal` (comes with the agent, needs no training), or the path of a bundle folder or tar.",
    )
    save_state_every: Duration = Field(
        default=900.0,
        description="How often what was learned (normalisation, calibration, edges) is saved to disk. It is saved too "
        "when a warm-up ends, and at stop.",
    )

    def path(self) -> Path | None:
        """Path of the bundle, or None for the universal model."""
        return None if self.bundle == "universal" else Path(self.bundle)
