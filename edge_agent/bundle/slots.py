"""The two bundles a gateway keeps: the one in use and the one before it.

::

    <data>/models/slots.json        which bundle is current, which is previous
    <data>/models/<sha256>/         the files of one bundle, named after its manifest
    <data>/models/damaged-<sha256>/ the last one that could not be read again, for whoever investigates

Below both lies the universal bundle of the package, which cannot be lost: `None` stands for it. Every step is one
rename, so a power cut leaves the state before or after it. One process at a time uses a folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle.store import place_files, read_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.durable import sync_folder
from edge_agent.errors import BundleError, StoreError

_LOG = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DAMAGED = "damaged-"
_MAX_STATE_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class _Slots:
    current: str | None = None
    previous: str | None = None


class ModelSlots:
    """Installed bundles under ``data_dir``. Blocking: call it in a thread, one call at a time.

    ``quarantined`` holds one message for each thing that was found damaged and put aside. Raises
    :class:`~edge_agent.errors.StoreError` when the folder cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "models"
        self._state_file = self._folder / "slots.json"
        self.quarantined: list[str] = []
        self._slots = self._load()

    @property
    def names(self) -> tuple[str | None, str | None]:
        """What the slots say: sha256 of the current and of the previous bundle, None for the universal one."""
        return self._slots.current, self._slots.previous

    def install(self, bundle: Bundle | None) -> None:
        """Make ``bundle`` (None: the universal one) the current one and keep the one that was current as the previous.

        It is on disk before the slots name it. Installing the current bundle again changes nothing.
        """
        name = None if bundle is None else bundle.sha256
        if name == self._slots.current:
            return
        try:
            if name is not None and bundle is not None and not self._readable(name):
                folder = self._folder / name
                shutil.rmtree(folder, ignore_errors=True)
                place_files(folder, bundle.files)
            self._save(_Slots(name, self._slots.current))
        except OSError as error:
            raise StoreError(f"{self._folder}: the bundle cannot be stored: {error.strerror}") from error
        self._remove_unused()

    def read(self, name: str) -> Bundle:
        """The bundle with that sha256, if a slot names it. :raises BundleError: none does, or it is damaged."""
        if name not in self.names:
            raise BundleError(f"{self._folder}: bundle {name} is not there, expected it as current or previous one")
        return self._read(name)

    def current(self) -> Bundle | None:
        """The bundle in use, or None for the universal one.

        A damaged bundle is quarantined and the previous one takes its place.
        """
        while (name := self._slots.current) is not None:
            try:
                return self._read(name)
            except BundleError as error:
                self._quarantine(name, error)
                self._save(_Slots(self._slots.previous, None))
        return None

    def previous(self) -> Bundle | None:
        """What :meth:`rollback` would go back to; None for the universal bundle, or when that is in use already."""
        if (name := self._slots.previous) is None:
            return None
        try:
            return self._read(name)
        except BundleError as error:
            self._quarantine(name, error)
            self._save(_Slots(self._slots.current, None))
            return None

    def rollback(self) -> Bundle | None:
        """Make the previous bundle current and forget the one that was; returns the new :meth:`current`.

        :class:`~edge_agent.errors.BundleError` when the universal bundle is in use, since nothing is below it.
        """
        if self._slots.current is None:
            raise BundleError("model rollback: the universal model is in use, expected an installed one before it")
        self._save(_Slots(self._slots.previous, None))
        self._remove_unused()
        return self.current()

    def _read(self, name: str) -> Bundle:
        bundle = read_bundle(self._folder / name)
        if bundle.sha256 != name:
            raise BundleError(f"bundle {self._folder / name}: got sha256 {bundle.sha256}, expected the folder's name")
        return bundle

    def _readable(self, name: str) -> bool:
        try:
            self._read(name)
        except BundleError:
            return False
        return True

    def _load(self) -> _Slots:
        try:
            with self._state_file.open("rb") as file:
                raw = file.read(_MAX_STATE_BYTES)
        except FileNotFoundError:
            return _Slots()
        except OSError as error:
            raise StoreError(f"{self._state_file}: {error.strerror}") from error
        try:
            plain = json.loads(raw)
            return _Slots(_slot(plain["current"]), _slot(plain["previous"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._report(f"{self._state_file}: damaged ({error}); the universal model is used")
            return _Slots()

    def _save(self, slots: _Slots) -> None:
        temporary = self._state_file.with_suffix(".tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump({"current": slots.current, "previous": slots.previous}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._state_file)
            sync_folder(self._folder)
            sync_folder(self._folder.parent)
        except OSError as error:
            raise StoreError(f"{self._state_file}: cannot be written: {error.strerror}") from error
        self._slots = slots

    def _quarantine(self, name: str, error: BundleError) -> None:
        for old in self._folder.glob(f"{_DAMAGED}*"):
            shutil.rmtree(old, ignore_errors=True)
        try:
            (self._folder / name).replace(self._folder / f"{_DAMAGED}{name}")
        except OSError:
            # It may be gone altogether; what matters is that it is no longer used.
            _LOG.debug("%s: nothing to put aside", name)
        self._report(f"{error}; put aside, the bundle before it is used")

    def _report(self, message: str) -> None:
        self.quarantined.append(message)
        _LOG.warning("model store: %s", message)

    def _remove_unused(self) -> None:
        """Remove bundles that no slot names, and what an interrupted install left."""
        keep = {self._slots.current, self._slots.previous}
        for entry in self._folder.iterdir():
            unused = _SHA256.fullmatch(entry.name) and entry.name not in keep
            if unused or entry.name.startswith(".new-"):
                shutil.rmtree(entry, ignore_errors=True)


def _slot(value: object) -> str | None:
    if value is None or (isinstance(value, str) and _SHA256.fullmatch(value)):
        return value
    raise ValueError(f"got slot {str(value)[:80]!r}, expected a sha256 or null")
