"""What a gateway does with trust: look, judge by floors, bring the model. In this process, by the same functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuf_repository import NOW_S

from edge_agent.errors import OtaError
from edge_agent.ota.trust.download import Wanted
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import Patience
from edge_agent.ota.trust.work import Vouched, check, fetch


class Gateway:
    def __init__(self, folder: Path, origin: str, root: bytes) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "root.json").write_bytes(root)
        self.origin = origin
        self.settings = Settings(folder / "ota", folder / "root.json", timeout_s=5.0)
        self.model = folder / "ota" / "blobs" / "model"

    def check(self, now_s: float = NOW_S, ring: str = "stable") -> Vouched:
        return check(self.settings, self.origin, ring, now_s, Patience(self.settings.timeout_s))

    def fetch(self, named: dict, now_s: float = NOW_S, into: Path | None = None) -> None:
        wanted = Wanted(named["path"], named["sha256"], named["bytes"])
        fetch(self.settings, self.origin, wanted, now_s, into or self.model, Patience(self.settings.timeout_s))

    def update(self, now_s: float = NOW_S) -> None:
        """Look, and take what the ring names."""
        self.fetch(json.loads(self.check(now_s).ring_file)["model"], now_s)

    def refuses(self, reason: str, now_s: float = NOW_S) -> OtaError:
        """The update is refused for this reason, and the model that is here is as it was."""
        before = self.model.read_bytes()
        with pytest.raises(OtaError) as caught:
            self.update(now_s)
        assert caught.value.reason == reason, str(caught.value)
        assert self.model.read_bytes() == before
        return caught.value
