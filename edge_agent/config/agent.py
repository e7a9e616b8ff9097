"""Options of the daemon itself."""

from __future__ import annotations

import socket
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from edge_agent.options import Duration, Options


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks: one JSON object, or text for people."""

    JSON = "json"
    TEXT = "text"


class LogOptions(Options):
    """What is logged, and how. Logs go to standard error; journald or the container keeps them."""

    level: LogLevel = Field(default=LogLevel.INFO, description="Least severe messages to log.")
    format: LogFormat = Field(
        default=LogFormat.JSON, description="`json`: one object a line, for machines; `text`: for people."
    )


class AgentOptions(Options):
    """The daemon itself."""

    name: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=255,
        description="Name of this gateway in every event. Default: the host name.",
        examples=["gateway-7"],
    )
    data_dir: Path = Field(
        default=Path("/var/lib/edge-agent"),
        description="Folder for what must survive a restart: undelivered events, learned state, the model in use.",
    )
    log: LogOptions = Field(default=LogOptions(), description="What is logged, and how.")
    stop_timeout: Duration = Field(
        default=10.0,
        ge=0.1,
        le=600,
        description="Time to deliver what is buffered when told to stop; after it, who is left is named and cancelled.",
    )
