"""Options of the drift detectors."""

from __future__ import annotations

from pydantic import Field

from edge_agent.options import Duration, Options, Rate


class DriftOptions(Options):
    """Slow changes of sensors, plant and model are told as status events; they are never alarms."""

    enabled: bool = Field(default=True, description="Look for sensors and plants that have changed for good.")
    block: Duration = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Ticks are looked at in blocks of this length; longer than the plant's usual cycles. At least "
        "ten ticks.",
    )
    reference_blocks: int = Field(
        default=24, ge=12, le=1000, description="Blocks without an incident to learn from before anything is told."
    )
    settled_blocks: int = Field(
        default=3, ge=2, le=50, description="Blocks that must agree with each other before a change has settled."
    )
    false_signals: Rate = Field(
        default=1 / 2_629_800, description="Sensors that may be said to drift by chance, over all sensors together."
    )
    plant_share: float = Field(
        default=0.1, gt=0, le=1, description="From this share of the sensors on, a change is one of the plant."
    )
