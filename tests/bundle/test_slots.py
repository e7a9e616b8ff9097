import os
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from bundle_factory import make_files

from edge_agent.bundle import Bundle, ModelSlots, slots, store, verify_bundle
from edge_agent.errors import BundleError, StoreError


@pytest.fixture(scope="module")
def bundles() -> list[Bundle]:
    """Three versions of one model."""
    return [verify_bundle(make_files(version=version)) for version in ("1", "2", "3")]


def versions(model_slots: ModelSlots) -> tuple[str | None, str | None]:
    found = (model_slots.current(), model_slots.previous())
    return tuple(bundle and bundle.manifest.version for bundle in found)  # type: ignore[return-value]


def folders(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / "models").iterdir() if path.is_dir())


def test_without_anything_installed_the_universal_bundle_is_meant(tmp_path: Path) -> None:
    assert versions(ModelSlots(tmp_path)) == (None, None)
    assert not list(tmp_path.iterdir())


def test_the_last_two_installed_bundles_are_kept_across_a_restart(tmp_path: Path, bundles: list[Bundle]) -> None:
    for bundle in bundles:
        ModelSlots(tmp_path).install(bundle)
    assert versions(ModelSlots(tmp_path)) == ("3", "2")
    assert folders(tmp_path) == sorted([bundles[1].sha256, bundles[2].sha256])


def test_installing_the_current_bundle_again_keeps_the_previous_one(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    for bundle in (bundles[0], bundles[1], bundles[1]):
        model_slots.install(bundle)
    assert versions(model_slots) == ("2", "1")


def test_installing_the_previous_bundle_exchanges_the_two(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    for bundle in (bundles[0], bundles[1], bundles[0]):
        model_slots.install(bundle)
    assert versions(ModelSlots(tmp_path)) == ("1", "2")


def test_rollback_goes_back_step_by_step_and_ends_at_the_universal_bundle(
    tmp_path: Path, bundles: list[Bundle]
) -> None:
    model_slots = ModelSlots(tmp_path)
    model_slots.install(bundles[0])
    model_slots.install(bundles[1])
    back = model_slots.rollback()
    assert back is not None
    assert back.manifest.version == "1"
    assert versions(ModelSlots(tmp_path)) == ("1", None)
    assert folders(tmp_path) == [bundles[0].sha256]
    assert model_slots.rollback() is None
    with pytest.raises(BundleError, match="model rollback: the universal model is in use"):
        model_slots.rollback()


def damage(data_dir: Path, bundle: Bundle) -> None:
    (data_dir / "models" / bundle.sha256 / "model.onnx").write_bytes(b"rotten")


def test_damaged_current_bundle_is_put_aside_and_the_previous_one_used(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    model_slots.install(bundles[0])
    model_slots.install(bundles[1])
    damage(tmp_path, bundles[1])
    restarted = ModelSlots(tmp_path)
    assert versions(restarted) == ("1", None)
    assert "model.onnx: got 6 bytes" in restarted.quarantined[0]
    assert folders(tmp_path) == sorted([bundles[0].sha256, f"damaged-{bundles[1].sha256}"])


def test_only_the_last_damaged_bundle_is_kept(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    for bundle in bundles[:2]:
        model_slots.install(bundle)
        damage(tmp_path, bundle)
    assert versions(model_slots) == (None, None)
    assert len(model_slots.quarantined) == 2
    assert folders(tmp_path) == [f"damaged-{bundles[0].sha256}"]


def test_damaged_previous_bundle_is_put_aside(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    model_slots.install(bundles[0])
    model_slots.install(bundles[1])
    damage(tmp_path, bundles[0])
    assert versions(model_slots) == ("2", None)


def test_bundle_that_vanished_is_reported_and_not_used(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    model_slots.install(bundles[0])
    shutil.rmtree(tmp_path / "models" / bundles[0].sha256)
    assert versions(model_slots) == (None, None)
    assert "No such file or directory" in model_slots.quarantined[0]


def test_bundle_exchanged_on_disk_for_another_good_one_is_not_used(tmp_path: Path, bundles: list[Bundle]) -> None:
    model_slots = ModelSlots(tmp_path)
    model_slots.install(bundles[0])
    folder = tmp_path / "models" / bundles[0].sha256
    for name, raw in bundles[1].files.items():
        (folder / name).write_bytes(raw)
    assert versions(model_slots) == (None, None)
    assert "expected the folder's name" in model_slots.quarantined[0]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"current": "../x", "previous": null}', b'{"current": null}', b"\xff"]
)
def test_damaged_slots_file_falls_back_to_the_universal_bundle(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "slots.json").write_bytes(raw)
    model_slots = ModelSlots(tmp_path)
    assert versions(model_slots) == (None, None)
    assert "slots.json: damaged" in model_slots.quarantined[0]


def test_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path, bundles: list[Bundle]) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(StoreError, match="Not a directory"):
        ModelSlots(tmp_path)
    in_the_way = tmp_path / "data"
    model_slots = ModelSlots(in_the_way)
    in_the_way.write_text("a file in the way")
    with pytest.raises(StoreError, match="the bundle cannot be stored"):
        model_slots.install(bundles[0])


def install_until_line(data_dir: Path, bundle: Bundle, lines: int) -> bool:
    """Install in a child process that dies before its n-th line of store or slots code; True if it got through."""
    files = {store.__file__, slots.__file__}
    left = lines

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(9)
        return trace

    child = os.fork()
    if child == 0:
        sys.settrace(trace)
        ModelSlots(data_dir).install(bundle)
        sys.settrace(None)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_dying_anywhere_in_an_install_leaves_the_old_or_the_new_bundle(tmp_path: Path, bundles: list[Bundle]) -> None:
    old, new, after = bundles
    outcomes = []
    for lines in range(1, 1_000, 3):
        data_dir = tmp_path / str(lines)
        ModelSlots(data_dir).install(old)
        finished = install_until_line(data_dir, new, lines)
        survivor = ModelSlots(data_dir)
        outcomes.append(versions(survivor))
        assert outcomes[-1] in {("1", None), ("2", "1")}
        assert survivor.quarantined == []
        survivor.install(after)
        assert versions(survivor)[0] == "3"
        assert len(folders(data_dir)) == 2
        if finished:
            break
    assert finished
    assert outcomes[0] == ("1", None)
    assert outcomes[-1] == ("2", "1")
