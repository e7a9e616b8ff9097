"""The self-test of a model that starts here for the first time: it must not kill the process at every start.

What an operator or an update brings was tried in a process of its own. What is named in the configuration, or comes
with an agent that has another ONNX Runtime, is tried in ours; each attempt is counted on the disk before it is made.
"""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.durable import make_folder, sync_folder, write_durably
from edge_agent.errors import BundleError
from edge_agent.inference import self_test

MOST_ATTEMPTS = 3


class FirstStart:
    """Marks in ``folder``: ``self-tested`` is the model that passed last, ``self-testing`` one that is being tried."""

    def __init__(self, folder: Path) -> None:
        self._passed = folder / "self-tested"
        self._trying = folder / "self-testing"

    def test(self, bundle: Bundle) -> None:
        """Self-test ``bundle``, unless it has passed on this runtime and machine. Blocking.

        :raises BundleError: it has not passed, or the process has died of it too often.
        """
        mark = f"{bundle.sha256} {metadata.version('onnxruntime')} {platform.machine()}"
        if _text(self._passed) == mark:
            return
        before, _, count = _text(self._trying).rpartition(" ")
        attempts = int(count) if before == mark and count.isdigit() else 0
        if attempts >= MOST_ATTEMPTS:
            manifest = bundle.manifest
            raise BundleError(
                f"{manifest.name} {manifest.version}: the process ended {attempts} times while this model was tried at "
                f"the start; it is left out, expected another model, or that {self._trying} is removed to try it again"
            )
        with contextlib.suppress(OSError):  # a disk that cannot be written keeps nobody from scoring
            make_folder(self._trying.parent)
            write_durably(self._trying, f"{mark} {attempts + 1}".encode())
            sync_folder(self._trying.parent)
        try:
            self_test(bundle)
        finally:
            with contextlib.suppress(OSError):
                self._trying.unlink()
        with contextlib.suppress(OSError):  # only a saving of time
            self._passed.write_text(mark)


def _text(path: Path) -> str:
    """What the file holds; nothing when it is damaged or cannot be read."""
    try:
        return path.read_bytes().decode("ascii", "replace")
    except OSError:
        return ""
