"""Options of the Acme source. The descriptions are the documentation."""

from __future__ import annotations

from pydantic import Field

from edge_agent.contract import SourceOptions
from edge_agent.options import Duration


class AcmeOptions(SourceOptions):
    """One scale."""

    host: str = Field(description="Name or address of the scale.", examples=["scale-3.plant.example"])
    port: int = Field(default=4001, ge=1, le=65535, description="TCP port of the scale.")
    timeout: Duration = Field(default=5.0, gt=0, le=60, description="Time to connect.")
