"""How the agent did before a trial, kept over restarts: what the new model is compared with. Blocking."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from edge_agent.clock import Clock
from edge_agent.history import StateFile
from edge_agent.ota.ports import Vitals

_MOST_BYTES = 1_000_000
_MOST_SAMPLES = 2_000


class Baseline:
    """The file ``<folder>/baseline``. Lost or damaged, the trial is judged by its own limits alone."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._file = StateFile(folder / "baseline", clock, _MOST_BYTES)

    def save(self, vitals: Vitals) -> None:
        """Keep ``vitals``, of its samples the newest; durable on return. :raises StoreError: it cannot be written."""
        plain = asdict(vitals)
        for name in ("scores", "tick_ms"):
            plain[name] = [float(value) for value in plain[name]][-_MOST_SAMPLES:]
        self._file.save(json.dumps(plain).encode())

    def load(self) -> Vitals | None:
        """What was kept, None when there is nothing to be had."""
        raw = self._file.load()
        with suppress(ValueError, TypeError):
            if raw is not None:
                plain = json.loads(raw)
                return Vitals(**{**plain, "troubles": tuple(plain["troubles"])})
        return None

    def forget(self) -> None:
        """The trial is over."""
        with suppress(OSError):
            self._file.path.unlink(missing_ok=True)
