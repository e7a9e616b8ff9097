import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_factory import make_manifest, make_parts
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundle import read_bundle, store, universal_bundle, verify_bundle, write_bundle
from edge_agent.bundle.manifest import MANIFEST
from edge_agent.errors import BundleError

Files = dict[str, bytes]


@pytest.fixture(scope="session")
def small_tar(tmp_path_factory: pytest.TempPathFactory, tiny_files: Files) -> Path:
    """A bundle as a tar, in a folder of its own."""
    return tar_of(tmp_path_factory.mktemp("tar") / "b.tar", tiny_files)


def folder_of(path: Path, files: Files) -> Path:
    path.mkdir()
    for name, raw in files.items():
        (path / name).write_bytes(raw)
    return path


def tar_of(path: Path, files: Files, *surplus: tarfile.TarInfo, prefix: str = "", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
        for member in surplus:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def refusal(path: Path) -> str:
    with pytest.raises(BundleError, match=rf"^bundle {path}: ") as caught:
        read_bundle(path)
    return str(caught.value)


def test_folder_and_tar_give_the_same_bundle(tmp_path: Path, tiny_files: Files) -> None:
    expected = verify_bundle(tiny_files)
    paths = [
        folder_of(tmp_path / "folder", tiny_files),
        tar_of(tmp_path / "flat.tar", tiny_files),
        tar_of(tmp_path / "dot.tar", tiny_files, member("./", tarfile.DIRTYPE), prefix="./"),
        tar_of(tmp_path / "inside.tar", tiny_files, member("tiny", tarfile.DIRTYPE), prefix="tiny/"),
    ]
    for path in paths:
        assert read_bundle(path).sha256 == expected.sha256
        assert read_bundle(path).manifest == expected.manifest


@pytest.mark.parametrize(
    ("surplus", "message"),
    [
        (member("../escape"), "'../escape': expected a file in the top folder"),
        (member("/etc/cron.d/x"), "'/etc/cron.d/x': expected a file in the top folder"),
        (member("a/b/c"), "'a/b/c': expected a file in the top folder"),
        (member("other/file"), "'other/file': expected each file once, all in one folder"),
        (member("model.onnx"), "'model.onnx': expected each file once"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "'link': expected ordinary files only"),
        (member("hard", tarfile.LNKTYPE, "model.onnx"), "'hard': expected ordinary files only"),
        (member("null", tarfile.CHRTYPE), "'null': expected ordinary files only"),
        (member("pipe", tarfile.FIFOTYPE), "'pipe': expected ordinary files only"),
        (member("big", size=(1 << 20) + 1), "'big': got more than 1048576 bytes"),
        (member("unlisted"), "'unlisted': not listed in manifest.json"),
    ],
)
def test_tar_with_anything_but_the_files_is_refused(
    tmp_path: Path, tiny_files: Files, surplus: tarfile.TarInfo, message: str
) -> None:
    assert message in refusal(tar_of(tmp_path / "b.tar", tiny_files, surplus))
    assert list(tmp_path.iterdir()) == [tmp_path / "b.tar"]


def test_tar_with_too_many_entries_is_refused(tmp_path: Path, tiny_files: Files) -> None:
    surplus = [member("d", tarfile.DIRTYPE) for _ in range(40)]
    assert "more than 18 entries" in refusal(tar_of(tmp_path / "b.tar", tiny_files, *surplus))


def test_compressed_tar_is_refused(tmp_path: Path, tiny_files: Files) -> None:
    message = refusal(tar_of(tmp_path / "b.tar.gz", tiny_files, mode="w:gz"))
    assert "expected a folder or an uncompressed tar" in message


@pytest.mark.parametrize("raw", [b"", b"garbage" * 200, b"\0" * 10_240])
def test_file_that_is_no_tar_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(raw)
    refusal(path)


def test_tar_cut_off_anywhere_is_refused(tmp_path: Path, tiny_files: Files) -> None:
    whole = tar_of(tmp_path / "whole.tar", tiny_files).read_bytes()
    content = sum(512 + -(-len(raw) // 512) * 512 for raw in tiny_files.values())
    for length in range(0, content - 512, 700):
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:length])
        refusal(path)


def test_tar_of_names_upon_names_is_refused(tmp_path: Path) -> None:
    long_name = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=4).tobuf() + b"abc".ljust(512, b"\0")
    (tmp_path / "b.tar").write_bytes(long_name * 3_000)
    assert "'././@LongLink': expected ordinary files only" in refusal(tmp_path / "b.tar")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=8))
def test_any_damage_to_a_tar_is_refused_or_does_no_harm(small_tar: Path, position: int, patch: bytes) -> None:
    whole = small_tar.read_bytes()
    position %= len(whole)
    damaged = small_tar.with_name("damaged.tar")
    damaged.write_bytes(whole[:position] + patch + whole[position + len(patch) :])
    expected = read_bundle(small_tar)
    try:
        found = read_bundle(damaged)
    except BundleError:
        return
    assert {**found.files, MANIFEST: b""} == {**expected.files, MANIFEST: b""}
    if found.sha256 == expected.sha256:
        assert found.manifest == expected.manifest
    else:  # nothing vouches for the manifest itself: one that differs is another bundle
        begin = whole.index(expected.files[MANIFEST])
        assert begin - len(patch) < position < begin + len(expected.files[MANIFEST])


def test_a_manifest_with_another_text_is_another_bundle(tmp_path: Path, tiny_files: Files) -> None:
    expected = verify_bundle(tiny_files)
    recipe = expected.manifest.provenance.recipe
    text = tiny_files[MANIFEST].replace(f'"{recipe}"'.encode(), f'"{" " * len(recipe)}"'.encode())
    found = read_bundle(tar_of(tmp_path / "b.tar", {**tiny_files, MANIFEST: text}))
    assert found.manifest.provenance.recipe == " " * len(recipe) != recipe
    assert found.sha256 != expected.sha256


def test_tar_above_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    with path.open("wb") as file:
        file.truncate(store.MAX_TAR_BYTES + 1)
    assert f"got a file of {store.MAX_TAR_BYTES + 1} bytes" in refusal(path)


def remake(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "card.md").unlink()
        make(folder / "card.md")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remake(lambda path: path.symlink_to("/etc/passwd")), "'card.md': Too many levels of symbolic links; expected"),
        (remake(os.mkfifo), "'card.md': expected an ordinary file"),
        (remake(Path.mkdir), "'card.md': expected an ordinary file"),
        (remake(lambda path: path.write_bytes(bytes(1 << 21))), "'card.md': got more than 1048576 bytes"),
        (lambda folder: [(folder / str(i)).touch() for i in range(30)], "got 36 files, expected at most 17"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: missing"),
    ],
)
def test_folder_with_anything_but_the_files_is_refused(
    tmp_path: Path, tiny_files: Files, change: Callable[[Path], object], message: str
) -> None:
    folder = folder_of(tmp_path / "b", tiny_files)
    change(folder)
    assert message in refusal(folder)


def test_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(tmp_path / "nothing")


def test_written_bundle_is_read_back(tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "out" / "b", make_manifest(), make_parts())
    read = read_bundle(tmp_path / "out" / "b")
    assert read.sha256 == written.sha256
    assert read.manifest.operators == ("Abs", "Add", "And", *read.manifest.operators[3:])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_folder_with_content_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(BundleError, match="the folder is not empty, expected a new one"):
        write_bundle(tmp_path, make_manifest(), make_parts())


def test_bundle_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"golden\.npz: in\.neighbour"):
        write_bundle(tmp_path / "b", make_manifest(neighbours=4), make_parts())
    with pytest.raises(BundleError, match=r"model\.onnx: missing"):
        write_bundle(tmp_path / "b", make_manifest(), {})
    assert not (tmp_path / "b").exists()


def test_missing_universal_bundle_is_a_bundle_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "UNIVERSAL", tmp_path)
    with pytest.raises(BundleError, match="the universal model is not in this installation"):
        universal_bundle()


def test_universal_bundle_is_read_from_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_files: Files
) -> None:
    monkeypatch.setattr(store, "UNIVERSAL", folder_of(tmp_path / "universal", tiny_files))
    assert universal_bundle().manifest.name == "tiny"
