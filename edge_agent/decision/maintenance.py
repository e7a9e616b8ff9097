"""Maintenance windows: when work on the plant is announced, and which sensors it concerns. Pure."""

from __future__ import annotations

from pydantic import Field

from edge_agent.schedule import WindowOptions


class MaintenanceOptions(WindowOptions):
    """Work on the plant that comes again and again: incidents in it disturb nobody, and nothing is learned from it."""

    name: str = Field(min_length=1, max_length=100, description="Name, shown in the incidents that fall into it.")
    sensors: tuple[str, ...] = Field(
        default=(), description="Sensors concerned, as shell-style patterns. Default with no `areas`: all."
    )
    areas: tuple[str, ...] = Field(default=(), description="Areas concerned, as shell-style patterns.")
