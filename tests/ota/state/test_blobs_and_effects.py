"""Verified files and what is done with them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from updater_rig import Package

from edge_agent.bundle import ModelSlots
from edge_agent.errors import BundleError, StoreError
from edge_agent.ota.blobs import Blobs
from edge_agent.ota.effects import find_bundle, put_model, put_overlay


def put(blobs: Blobs, content: bytes, age: int = 0) -> str:
    digest = hashlib.sha256(content).hexdigest()
    path = blobs.path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return digest


def test_sealed_file_is_read_only_and_damage_is_removed(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    name = put(blobs, b"model")
    blobs.seal(name)
    assert blobs.path(name).stat().st_mode & 0o777 == 0o444
    assert blobs.held() == {name}
    blobs.path(name).chmod(0o644)
    blobs.path(name).write_bytes(b"modeL")
    assert not blobs.intact(name)
    assert blobs.held() == frozenset()
    with pytest.raises(StoreError, match=f"{name}: is missing or damaged right after it was fetched"):
        blobs.seal(name)


def test_at_most_three_are_kept_and_the_oldest_go_first(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    names = [put(blobs, b"%d" % number, age=number) for number in range(6)]
    blobs.partial(names[0]).parent.mkdir()
    for name in names[4:]:
        blobs.partial(name).write_bytes(b"part")
    removed = blobs.collect({names[5]}, free_bytes=10**6)
    assert blobs.held() == {names[0], names[1], names[5]}
    assert removed == [names[4], names[3], names[2]]
    assert [path.name for path in (tmp_path / "partial").iterdir()] == [f"{names[5]}.part"]


def test_a_quarter_of_the_free_space_is_the_most(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    names = [put(blobs, bytes([number]) * 1_000, age=number) for number in range(3)]
    blobs.collect((), free_bytes=5_000)
    assert blobs.held() == {names[0], names[1]}
    blobs.collect({names[1]}, free_bytes=0)
    assert blobs.held() == {names[1]}


def test_model_is_found_in_slots_and_among_the_files(tmp_path: Path, packages: dict[str, Package]) -> None:
    assert find_bundle(tmp_path, None) is None
    name = packages["A"].bundle.sha256
    with pytest.raises(BundleError, match=f"bundle {name}: is not on this gateway any more"):
        find_bundle(tmp_path, name)
    put(Blobs(tmp_path / "ota"), packages["A"].tar)
    found = find_bundle(tmp_path, name)
    assert found is not None
    ModelSlots(tmp_path).install(found)
    Blobs(tmp_path / "ota").path(packages["A"].target.sha256).unlink()
    again = find_bundle(tmp_path, name)
    assert again is not None
    assert again.sha256 == name


def test_slots_go_back_rather_than_forward(tmp_path: Path, packages: dict[str, Package]) -> None:
    a, b = packages["A"].bundle, packages["B"].bundle
    for bundle in (a, b, b):
        put_model(ModelSlots(tmp_path), bundle)
    assert ModelSlots(tmp_path).names == (b.sha256, a.sha256)
    put_model(ModelSlots(tmp_path), a)
    assert ModelSlots(tmp_path).names == (a.sha256, None)
    put_model(ModelSlots(tmp_path), None)
    assert ModelSlots(tmp_path).names == (None, None)


def test_damaged_current_model_is_written_anew(tmp_path: Path, packages: dict[str, Package]) -> None:
    b = packages["B"].bundle
    put_model(ModelSlots(tmp_path), b)
    (tmp_path / "models" / b.sha256 / "model.onnx").write_bytes(b"rot")
    put_model(ModelSlots(tmp_path), b)
    current = ModelSlots(tmp_path).current()
    assert current is not None
    assert current.sha256 == b.sha256


def test_overlay_is_put_and_taken_away(tmp_path: Path) -> None:
    overlay = tmp_path / "ota" / "config.yaml"
    name = put(Blobs(tmp_path / "ota"), b"graph: {}\n")
    assert put_overlay(tmp_path, name)
    assert not put_overlay(tmp_path, name)
    assert overlay.read_bytes() == b"graph: {}\n"
    assert put_overlay(tmp_path, None)
    assert not put_overlay(tmp_path, None)
    with pytest.raises(StoreError, match="is missing or damaged, expected the verified configuration"):
        put_overlay(tmp_path, "f" * 64)
