"""Options of the file sink."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, field_validator

from edge_agent.contract import SinkOptions
from edge_agent.options import ByteSize


class Sync(StrEnum):
    """When written events are forced onto the disk."""

    NEVER = "never"
    BATCH = "batch"


class FileOptions(SinkOptions):
    """Events as JSON lines."""

    path: str = Field(
        description="File to append to, or `-` for standard output. Its folder must exist.",
        examples=["/var/log/edge-agent/events.jsonl", "-"],
    )
    max_size: ByteSize = Field(
        default=10_000_000, ge=1_000, description="Start a new file before this one grows beyond it."
    )
    max_files: int = Field(
        default=5,
        ge=1,
        le=1_000,
        description="Files kept, the current one included: `events.jsonl`, then `.1` (newest) to `.4` (oldest).",
    )
    sync: Sync = Field(
        default=Sync.NEVER,
        description="`never`: the system writes within about 30 s, which is gentle to SD cards; `batch`: every "
        "delivery is on the disk before it counts as delivered.",
    )

    @field_validator("path")
    @classmethod
    def _path_names_a_file(cls, path: str) -> str:
        if not path or path.endswith("/") or "\0" in path:
            raise ValueError(f"got {path!r}, expected a file such as /var/log/edge-agent/events.jsonl, or -")
        return path
