"""What a configuration is made of: the text of the gateway's own file, and the overlay that came over the air."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edge_agent.durable import make_folder, sync_folder, write_durably
from edge_agent.errors import ConfigError, StoreError
from edge_agent.ota.ring import MAX_CONFIG_BYTES

OVER_THE_AIR = "config over the air"
"""What an overlay is called in messages when its release is not known."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Sections that are laid over the gateway's own file. ``label``: whose they are, in messages."""

    content: bytes
    label: str = OVER_THE_AIR

    @property
    def sha256(self) -> str:
        """Of its bytes, in hexadecimal: the identity of a configuration target."""
        return sha256(self.content).hexdigest()

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
    return data_dir / "ota" / "config.yaml"


def read_overlay(path: Path, label: str = OVER_THE_AIR) -> Overlay:
    """The overlay in the file ``path``; what it says is not looked at. :raises ConfigError: it cannot be read."""
    try:
        with path.open("rb") as file:
            return Overlay(file.read(MAX_CONFIG_BYTES + 1), label)
    except OSError as error:
        raise ConfigError(f"{label}: {path} cannot be read: {error.strerror}") from error


def keep_overlay(data_dir: Path, overlay: Overlay | None) -> None:
    """Have ``overlay`` where the next start finds it, or none there; durable on return. Blocks on the disk.

    :raises StoreError: the disk does not take it; what was there is there.
    """
    path = overlay_path(data_dir)
    try:
        if overlay is None:
            if path.exists():
                path.unlink()
                sync_folder(path.parent)
            return
        if path.exists() and path.read_bytes() == overlay.content:
            return
        make_folder(path.parent)
        new = path.with_name(f"{path.name}.new")
        write_durably(new, overlay.content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
