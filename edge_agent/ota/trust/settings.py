"""What fetching and checking is told once: folders, time limits, TLS. Light: the process of trust imports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from edge_agent.ota.options import OtaOptions


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one gateway.

    ``folder``: where updates keep their files (``<data_dir>/ota``). ``root``: path of the root metadata that all trust
    starts with. ``timeout_s``: for all metadata of one order, and for any single wait for the server. ``slowest``:
    bytes/s, averaged over a minute, below which a download is given up. ``tls``: fields of
    :class:`~edge_agent.tls.TlsOptions` as plain values; it may hold the password of a key, so it is never logged.
    """

    folder: Path
    root: Path
    timeout_s: float = 30.0
    slowest: int = 500
    tls: Mapping[str, str] | None = None

    @classmethod
    def of(cls, options: OtaOptions, data_dir: Path) -> Self:
        """From the section ``ota`` of the configuration. :raises ValueError: it has no ``root``."""
        if options.root is None:
            raise ValueError("ota.root: is missing, expected the path of the repository's root.json")
        tls = None
        if options.tls is not None:
            tls = {name: str(value) for name, value in options.tls if value is not None and name != "key_password"}
            if options.tls.key_password is not None:
                tls["key_password"] = options.tls.key_password.reveal()
        return cls(data_dir / "ota", options.root, options.timeout, options.slowest, tls)

    def to_json(self) -> dict[str, Any]:
        """Plain values that :meth:`from_json` reads back."""
        return {
            "folder": str(self.folder.absolute()),
            "root": str(self.root.absolute()),
            "timeout_s": self.timeout_s,
            "slowest": self.slowest,
            "tls": None if self.tls is None else dict(self.tls),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` gave."""
        return cls(**{**values, "folder": Path(values["folder"]), "root": Path(values["root"])})

    def __repr__(self) -> str:
        return f"Settings(folder={str(self.folder)!r}, root={str(self.root)!r})"

    @property
    def metadata(self) -> Path:
        """Where the trusted metadata is kept."""
        return self.folder / "tuf"

    @property
    def partial(self) -> Path:
        """Where downloads that are not whole yet are kept."""
        return self.folder / "partial"
