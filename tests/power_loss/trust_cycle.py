"""A gateway that takes two releases, before its power is lost: ``python trust_cycle.py ROOT FIRST SECOND``.

``ROOT`` is the gateway's; FIRST and SECOND are a repository at two moments, between which a key was revoked. Notes:
``kept N`` (the model of release N is durable), ``root N`` (root N was trusted).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "ota" / "trust")]
from gateway import Gateway  # noqa: E402 - found only now

SIZE = 200_000


def model(number: int) -> bytes:
    return f"model {number} ".encode() * (SIZE // 8)


def gateway_at(root: Path, origin: Path) -> Gateway:
    """The gateway whose files are in ``root``, looking at a folder. Its first root is that of the repository."""
    gateway = Gateway(root, origin.as_uri(), (origin / "metadata" / "1.root.json").read_bytes())
    gateway.model = gateway.settings.folder / "blobs" / "model"
    return gateway


def main(root: Path, *moments: Path) -> None:
    notes = os.open(root / "notes", os.O_WRONLY | os.O_CREAT)
    for number, moment in enumerate(moments, 1):
        gateway = gateway_at(root, moment)
        found = gateway.check()
        os.write(notes, f"root {number}\n".encode())
        gateway.fetch(json.loads(found.ring_file)["model"], into=gateway.model.with_name(str(number)))
        os.write(notes, f"kept {number}\n".encode())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
