"""What a step of an update does to the files that the agent starts from: model slots and configuration overlay.

Both can be done again and again; doing them twice is doing them once. Blocking.
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.bundle import Bundle, ModelSlots
from edge_agent.durable import make_folder, replace_durably, sync_folder
from edge_agent.errors import BundleError, StoreError
from edge_agent.ota.blobs import Blobs

OVERLAY = "config.yaml"


def put_model(slots: ModelSlots, bundle: Bundle | None) -> None:
    """Make ``bundle`` (None: the universal one) the current one of ``slots``.

    When that is where it came from, the slots go back: what is left then is not kept as the one to go back to.
    :raises StoreError, BundleError: it cannot be.
    """
    name = None if bundle is None else bundle.sha256
    current, previous = slots.names
    if name == current and (name is None or _readable(slots, name)):
        return
    if name == current:
        slots.current()  # puts the damaged one aside, so that it is written anew
    elif current is not None and previous == name and (name is None or _readable(slots, name)):
        slots.rollback()
        return
    slots.install(bundle)


def find_bundle(data_dir: Path, model: str | None, blob: str | None = None) -> Bundle | None:
    """The bundle of that identity, in the slots' folder or among the verified files (``blob``: which); None: universal.

    :raises BundleError: it is not there any more, or damaged.
    """
    if model is None:
        return None
    slots = ModelSlots(data_dir)
    if model in slots.names and _readable(slots, model):
        return slots.read(model)
    blobs = Blobs(data_dir / "ota")
    found = blobs.bundle(blob) if blob is not None else blobs.find_bundle(model)
    if found is None or found.sha256 != model:
        raise BundleError(f"bundle {model}: is not on this gateway any more")
    return found


def put_overlay(data_dir: Path, config: str | None) -> bool:
    """Make the verified file ``config`` (its sha256; None: nothing) the overlay. Returns whether that was a change.

    :raises StoreError: it is not there or damaged, or the overlay cannot be written.
    """
    if config is None:
        return write_overlay(data_dir, None)
    blobs = Blobs(data_dir / "ota")
    try:
        if not blobs.intact(config):
            raise StoreError(f"{blobs.path(config)}: is missing or damaged, expected the verified configuration")
        content = blobs.path(config).read_bytes()
    except OSError as error:
        raise StoreError(f"{blobs.path(config)}: cannot be read: {error.strerror or error}") from error
    return write_overlay(data_dir, content)


def write_overlay(data_dir: Path, content: bytes | None) -> bool:
    """Make ``content`` (None: nothing) the overlay that the next start finds. Returns whether that was a change.

    :raises StoreError: it cannot be written; what was there is there.
    """
    folder, overlay = data_dir / "ota", data_dir / "ota" / OVERLAY
    try:
        if content is None:
            if not overlay.exists():
                return False
            overlay.unlink()
            sync_folder(folder)
            return True
        if overlay.exists() and overlay.read_bytes() == content:
            return False
        make_folder(folder)
        replace_durably(overlay, content)
        return True
    except OSError as error:
        raise StoreError(f"{overlay}: cannot be written: {error.strerror or error}") from error


def _readable(slots: ModelSlots, name: str) -> bool:
    try:
        slots.read(name)
    except BundleError:
        return False
    return True
