"""The overlay at a start: what was verified, or none."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.ota.boot import boot
from edge_agent.ota.state import OtaState
from edge_agent.ota.state_store import StateStore

CONTENT = b"rules: {}\n"
NAME = sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("found", "blob", "config", "left"),
    [
        (CONTENT, CONTENT, NAME, CONTENT),
        (CONTENT, None, NAME, CONTENT),
        (b"rules: {} # by hand", CONTENT, NAME, CONTENT),
        (None, CONTENT, NAME, CONTENT),
        (b"rules: {} # by hand", None, NAME, None),
        (b"rules: {} # by hand", b"damaged", NAME, None),
        (CONTENT, CONTENT, None, None),
    ],
)
def test_at_a_start_only_what_was_verified_is_laid_over(
    tmp_path: Path, found: bytes | None, blob: bytes | None, config: str | None, left: bytes | None
) -> None:
    clock = VirtualClock(1_760_000_000 * NS_PER_S)
    folder = tmp_path / "ota"
    (folder / "blobs").mkdir(parents=True)
    StateStore(folder, clock).save(OtaState(config=config))
    if found is not None:
        (folder / "config.yaml").write_bytes(found)
    if blob is not None:
        (folder / "blobs" / NAME).write_bytes(blob)
    booted = boot(tmp_path, clock)
    overlay = folder / "config.yaml"
    assert (overlay.read_bytes() if overlay.exists() else None) == left
    assert booted.overlay_changed is (left != found)
    assert bool(booted.problems) is (left is None and config is not None)
