"""Which model runs: chosen at start, exchanged on request. Everything that blocks happens in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from edge_agent.bundle import Bundle, Calibration, ModelSlots, read_bundle, universal_bundle
from edge_agent.bundle.manifest import MANIFEST
from edge_agent.bundle.store import UNIVERSAL
from edge_agent.daemon.first_start import FirstStart
from edge_agent.errors import BundleError, StoreError
from edge_agent.inference import Detector, OnnxDetector, StatisticalDetector
from edge_agent.ota.effects import put_model
from edge_agent.ota.probe import ChildProber
from edge_agent.pipeline.options import ModelOptions

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A detector that passed its self-test, and the bundle it came from (None: the statistical fallback)."""

    detector: Detector
    bundle: Bundle | None

    @property
    def installed(self) -> str | None:
        """Sha256 of the installed bundle that it came from; None: it came with the agent."""
        if self.bundle is None or self.bundle.sha256 == universal_sha256():
            return None
        return self.bundle.sha256

    @property
    def calibration(self) -> Calibration | None:
        """Scores on held-out normal data, if the bundle brought some."""
        return None if self.bundle is None else self.bundle.calibration

    @property
    def edges(self) -> list[tuple[str, str, float]]:
        """Edges that the model was trained with."""
        if self.bundle is None:
            return []
        return [(edge.sensor, edge.neighbour, edge.weight) for edge in self.bundle.manifest.edges]

    def describe(self) -> dict[str, Any]:
        """What people are told about it."""
        if self.bundle is None:
            detector = self.detector
            return {"name": detector.name, "version": detector.version, "sha256": None, "kind": "fallback"}
        manifest = self.bundle.manifest
        return {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": self.bundle.sha256,
            "kind": manifest.kind.value,
            "created": manifest.created,
            "neighbours": manifest.neighbours,
            "warmup_ticks": manifest.warmup_ticks,
            "sensors": len(manifest.sensors),
        }


class Models:
    """The models of one gateway: current, previous, universal, fallback. Installed ones are kept in ``data_dir``."""

    def __init__(self, options: ModelOptions, data_dir: Path) -> None:
        self._options = options
        self._data_dir = data_dir
        self._first_start = FirstStart(data_dir / "models")
        self._slots: ModelSlots | None = None
        self._below: dict[str, Any] | None = None
        self._seen: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []

    async def choose(self) -> Model:
        """The model to start with. One that cannot be used is told of in ``problems``, and the next best is taken.

        Order: what was swapped in or configured, what was there before it, the universal model, the fallback.
        """
        return await asyncio.to_thread(self._choose)

    async def prepare(self, path: Path) -> Bundle:
        """Try the bundle at ``path`` in a process of its own, and read it. :raises BundleError: it must not be used."""
        tried = await ChildProber().try_out(path)
        bundle = await asyncio.to_thread(read_bundle, path)
        if bundle.sha256 != tried.bundle:
            raise BundleError(f"bundle {path}: it was exchanged for another while it was tried; give it again")
        return bundle

    async def load(self, bundle: Bundle) -> Model:
        """Load a bundle that was tried in a process of its own. :raises BundleError: it cannot be loaded here."""
        return await asyncio.to_thread(lambda: Model(OnnxDetector(bundle), bundle))

    async def install(self, model: Model) -> None:
        """Keep ``model`` as the current one over restarts. :raises StoreError: cannot be written."""
        if model.bundle is not None:
            await asyncio.to_thread(self._keep, partial(ModelSlots.install, bundle=model.bundle), model.bundle)

    async def put(self, model: Model) -> None:
        """Like :meth:`install`, for updates: one that goes back forgets what it goes back from, also to the universal
        model. :raises StoreError: cannot be written."""
        bundle = None if model.installed is None else model.bundle
        await asyncio.to_thread(self._keep, partial(put_model, bundle=bundle), bundle)

    async def find(self, name: str) -> Bundle:
        """The installed bundle with that sha256. :raises BundleError: there is none, or it is damaged."""
        return await asyncio.to_thread(lambda: self._opened().read(name))

    def names(self) -> tuple[str | None, str | None]:
        """Sha256 of the current and the previous bundle in the slots (None: universal). Blocks before the start."""
        return self._opened().names

    async def previous(self) -> Bundle:
        """The bundle a rollback would bring back; it ran here before. :raises BundleError: there is none."""
        return await asyncio.to_thread(self._previous)

    async def commit_rollback(self) -> None:
        """Make the previous model the current one over restarts."""
        if self._slots is not None:
            await asyncio.to_thread(self._slots.rollback)
            await asyncio.to_thread(self._look_below)

    def describe_previous(self) -> dict[str, Any] | None:
        """What a rollback would bring back, None when there is nothing to go back to."""
        return self._below

    # -- inside, in a thread -----------------------------------------------------------------------------------

    def _opened(self) -> ModelSlots:
        if self._slots is None:
            self._slots = ModelSlots(self._data_dir)
        return self._slots

    def _keep(self, keep: Callable[[ModelSlots], None], bundle: Bundle | None) -> None:
        keep(self._opened())
        self._look_below()
        if bundle is not None:
            self._seen = {**dict(list(self._seen.items())[-1:]), bundle.sha256: _named(bundle)}

    def _choose(self) -> Model:
        model = self._first_that_works()
        try:
            self._look_below()
        except StoreError as error:  # a disk that cannot be written keeps nobody from scoring
            self._tell(str(error))
        return model

    def _look_below(self) -> None:
        self._below = None
        if self._slots is not None and self._slots.names[0] is not None:
            name = self._slots.names[1]
            if name is not None and name in self._seen:  # what ran a moment ago need not be read again
                self._below = self._seen[name]
                return
            bundle = self._slots.previous()
            self._below = _named(bundle)

    def _first_that_works(self) -> Model:
        for load in (self._current, self._before, universal_bundle):
            try:
                bundle = load()
                if bundle is not None:
                    return self._tested(bundle)
            except (BundleError, StoreError) as error:
                self._tell(str(error))
        self._tell("no model can run: the statistical detector is used instead, incidents are flagged as degraded")
        return Model(StatisticalDetector(), None)

    def _tested(self, bundle: Bundle) -> Model:
        self._first_start.test(bundle)
        return Model(OnnxDetector(bundle), bundle)

    def _current(self) -> Bundle | None:
        configured = self._options.path()
        slots = self._opened()
        for message in slots.quarantined:
            self._tell(message)
        if configured is not None:
            self._install_configured(slots, self._data_dir / "models" / "configured", configured)
        return slots.current()

    def _install_configured(self, slots: ModelSlots, marker: Path, configured: Path) -> None:
        """Install the bundle named in the configuration once: a model swapped in later is newer than that line."""
        try:
            bundle = read_bundle(configured)
            if not _says(marker, bundle.sha256):
                self._first_start.test(bundle)
                slots.install(bundle)
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.write_text(bundle.sha256)
        except (BundleError, StoreError) as error:  # what is installed already may still be good
            self._tell(str(error))
        except OSError as error:
            self._tell(
                f"{marker}: cannot be written: {error.strerror}; the configured model is installed at each start"
            )

    def _before(self) -> Bundle | None:
        return self._slots.previous() if self._slots is not None else None

    def _previous(self) -> Bundle:
        if self._slots is None or self._slots.current() is None:
            raise BundleError("model rollback: the universal model is in use, expected an installed one before it")
        return self._slots.previous() or universal_bundle()

    def _tell(self, message: str) -> None:
        self.problems.append(message)
        _log.error("model: %s", message)


@cache
def universal_sha256() -> str | None:
    """Identity of the universal bundle of this installation, None when it is not in it."""
    try:
        return hashlib.sha256((UNIVERSAL / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


def _named(bundle: Bundle | None) -> dict[str, Any]:
    if bundle is None:
        return {"name": "universal", "version": None, "sha256": None}
    return {"name": bundle.manifest.name, "version": bundle.manifest.version, "sha256": bundle.sha256}


def _says(path: Path, text: str) -> bool:
    """Whether that is what the file holds; one that is damaged or cannot be read does not."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False
