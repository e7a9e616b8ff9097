"""Options of the rolling graph."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edge_agent.options import Options


class GraphOptions(Options):
    """Edges between sensors: declared ones always come first, learned ones fill the free places."""

    edges: tuple[tuple[str, str], ...] = Field(
        default=(), description="Pairs of sensors that belong together physically: `[[LIT101, FIT101], …]`."
    )
    edges_file: Path | None = Field(
        default=None, description="CSV file with two columns of sensor names (header optional), added to `edges`."
    )
    learn: bool = Field(default=True, description="Learn further edges from recent correlation.")
    learn_after: int = Field(
        default=120, ge=16, le=100_000, description="Ticks of data before edges are learned for the first time."
    )
    relearn_every: int = Field(
        default=3_600, ge=16, le=10_000_000, description="Ticks between two looks at the learned edges."
    )
    window: int = Field(default=256, ge=32, le=4_096, description="Ticks of history kept in memory for each sensor.")
