"""What a configuration is made of: the text of the gateway's own file, and the overlay that came over the air."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.ota.effects import OVERLAY
from edge_agent.ota.ring import MAX_CONFIG_BYTES

OVER_THE_AIR = "config over the air"
"""What an overlay is called in messages when its release is not known."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Sections that are laid over the gateway's own file. ``label``: whose they are, in messages."""

    content: bytes
    label: str = OVER_THE_AIR
    sha256: str = field(init=False)
    """Of its bytes, in hexadecimal: the identity of a configuration target."""

    def __post_init__(self) -> None:
        # Once, where it is read: it is asked for on the event loop, and a megabyte takes its time.
        object.__setattr__(self, "sha256", sha256(self.content).hexdigest())

    def text(self) -> str:
        """Its text. :raises ConfigError: it is too long or not UTF-8."""
        if len(self.content) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{self.label}: got more than {MAX_CONFIG_BYTES} bytes")
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.content.count(b"\n", 0, error.start) + 1
            byte = self.content[error.start]
            raise ConfigError(f"{self.label}: line {line}: not UTF-8 text (byte {byte:#04x})") from error


@dataclass(frozen=True, slots=True)
class Layers:
    """``text``: of the gateway's own file, as it was read. ``overlay``: in use over it, if any.

    ``left_out``: why an overlay that is there is not in use.
    """

    text: str = ""
    overlay: Overlay | None = None
    left_out: str | None = None


def overlay_path(data_dir: Path) -> Path:
    """Where a gateway keeps its overlay."""
    return data_dir / "ota" / OVERLAY


def read_overlay(path: Path, label: str = OVER_THE_AIR) -> Overlay:
    """The overlay in the file ``path``; what it says is not looked at. :raises ConfigError: it cannot be read."""
    try:
        with path.open("rb") as file:
            return Overlay(file.read(MAX_CONFIG_BYTES + 1), label)
    except OSError as error:
        raise ConfigError(f"{label}: {path} cannot be read: {error.strerror}") from error
