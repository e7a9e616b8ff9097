"""Options of the intake: what is known about each sensor, and how timestamps are judged."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from edge_agent.options import Duration, Options


class Criticality(StrEnum):
    """How much an incident at this sensor matters."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class SensorOptions(Options):
    """What is known about a sensor. Data-quality findings from these limits never count as process anomalies."""

    unit: str | None = Field(default=None, description="Unit shown in incidents, after `scale` and `offset`.")
    scale: float = Field(default=1.0, description="Factor from the device's unit to `unit`.", allow_inf_nan=False)
    offset: float = Field(default=0.0, description="Added after `scale`.", allow_inf_nan=False)
    min: float | None = Field(default=None, description="Lowest value that is possible; below it the reading is bad.")
    max: float | None = Field(default=None, description="Highest value that is possible; above it the reading is bad.")
    max_rate: float | None = Field(
        default=None, gt=0, description="Fastest possible change, in `unit` per second; faster readings are flagged."
    )
    stuck_after: Duration | None = Field(
        default=None, description="A sensor whose fresh readings have not changed for this long is stuck. Default: off."
    )
    stale_after: Duration | None = Field(
        default=None,
        description="Without a reading for this long the sensor counts as missing. Default: as in `intake`.",
    )
    states: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default={},
        description="Names that rules may use for values, such as `{off: 1, running: 2}`. "
        "Default: `on`, `open`, `true` are 1 and `off`, `closed`, `false` are 0.",
    )
    area: str | None = Field(
        default=None, max_length=100, description="Part of the plant it belongs to; sinks can be asked for areas."
    )
    monitor: bool = Field(
        default=True,
        description="False: the sensor helps to judge its neighbours, but what it does is no incident of the process. "
        "That it is silent, stuck or impossible is told all the same.",
    )
    criticality: Criticality = Field(
        default=Criticality.NORMAL, description="How much an incident at this sensor matters; raises its severity."
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min is {self.min:g} and max is {self.max:g}, expected min below max")
        if self.scale == 0:
            raise ValueError("scale is 0, which would turn every reading into the same number")
        return self


class IntakeOptions(Options):
    """How readings are taken in."""

    capacity: int = Field(
        default=20_000, ge=1, le=10_000_000, description="Frames buffered for each source between it and the tick."
    )
    max_sensors: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Sensors beyond this number are refused and counted. 10,000 take about 350 MB of memory.",
    )
    max_future: Duration = Field(
        default=300.0, description="A source time further ahead than this is not believed; arrival time is used."
    )
    max_past: Duration = Field(
        default=604_800.0, description="A source time further back than this is not believed; arrival time is used."
    )
    stale_after: Duration = Field(
        default=60.0, description="Without a reading for this long a sensor counts as missing (at least three ticks)."
    )
    forget_after: Duration = Field(
        default=86_400.0, description="A sensor not heard of for this long is removed from the graph."
    )
