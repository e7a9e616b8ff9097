"""Bundles as folders and tar files: reading them within limits, writing them.

What is read is checked by :mod:`edge_agent.bundle.verify` before anyone sees it. Links, devices and paths that leave
the folder are refused, and no file is read further than one byte beyond its limit. Blocking: call it in a thread.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from edge_agent.bundle.manifest import MANIFEST, MAX_FILES, MIB, MODEL, FileDigest, Manifest, max_bytes
from edge_agent.bundle.onnx_gate import inspect_model
from edge_agent.bundle.tar import Entry, tar_entries
from edge_agent.bundle.verify import Bundle, verify_bundle
from edge_agent.durable import sync_folder, write_durably
from edge_agent.errors import BundleError

MAX_TAR_BYTES = 224 * MIB
UNIVERSAL = Path(__file__).parent / "universal"


def read_bundle(path: Path) -> Bundle:
    """Read and check the bundle in a folder or a plain tar.

    :class:`~edge_agent.errors.BundleError` names the path, the file in it and what is wrong.
    """
    with _naming(path):
        return verify_bundle(_read_folder(path) if path.is_dir() else _read_tar(path))


def universal_bundle() -> Bundle:
    """The bundle that is shipped inside the package."""
    if not (UNIVERSAL / MANIFEST).exists():
        raise BundleError(f"the universal model is not in this installation: {UNIVERSAL} is empty; install it again")
    return read_bundle(UNIVERSAL)


def write_bundle(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a new bundle folder and give back what was written.

    ``files`` are all files but the manifest; its ``opset``, ``operators`` and ``files`` are filled in from them. A
    bundle that could not be read back is refused before anything is written; a ``directory`` that exists and is not
    empty is refused too.
    """
    bundle = verify_bundle(seal(manifest, files))
    with _naming(directory):
        if directory.exists() and any(directory.iterdir()):
            raise BundleError("the folder is not empty, expected a new one")
        place_files(directory, bundle.files)
    return bundle


def seal(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of a bundle, with a ``manifest.json`` that states their digests and the model's operators."""
    if MODEL not in files:
        raise BundleError(f"{MODEL}: missing, expected among the files to write")
    facts = inspect_model(files[MODEL])
    digests = (FileDigest(name, hashlib.sha256(raw).hexdigest(), len(raw)) for name, raw in files.items())
    sealed = dataclasses.replace(manifest, opset=facts.opset, operators=facts.operators, files=tuple(digests))
    return {MANIFEST: sealed.to_json(), **files}


def place_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into a temporary folder beside ``directory``, make them durable, rename. All or nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.parent / f".new-{directory.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, raw in files.items():
            write_durably(temporary / name, raw)
        sync_folder(temporary)
        temporary.replace(directory)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(directory.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the path in front of every message, and turn what the system says into our error."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"bundle {path}: {error}") from error
    except OSError as error:
        raise BundleError(f"bundle {path}: {error.strerror or error}") from error


def _read_folder(directory: Path) -> dict[str, bytes]:
    names = sorted(entry.name for entry in os.scandir(directory))
    if len(names) > MAX_FILES + 1:
        raise BundleError(f"got {len(names)} files, expected at most {MAX_FILES + 1}")
    return {name: _read_file(directory / name) for name in names}


def _read_file(path: Path) -> bytes:
    with _ordinary(path, os.O_NOFOLLOW) as file:
        return _read_limited(path.name, file)


@contextmanager
def _ordinary(path: Path, flags: int = 0) -> Iterator[IO[bytes]]:
    """An ordinary file for reading."""
    try:
        # Non-blocking, so that a named pipe cannot hold us up before we see what it is.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BundleError(f"{path.name!r}: {error.strerror}; expected an ordinary file, no link") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleError(f"{path.name!r}: expected an ordinary file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _read_limited(name: str, file: IO[bytes]) -> bytes:
    raw = file.read(max_bytes(name) + 1)
    if len(raw) > max_bytes(name):
        raise _too_large(name)
    return raw


def _read_tar(path: Path) -> dict[str, bytes]:
    with _ordinary(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_TAR_BYTES:
            raise BundleError(f"got a file of {size} bytes, expected a tar of at most {MAX_TAR_BYTES}")
        return _read_entries(file)


def _read_entries(file: IO[bytes]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    for count, entry in enumerate(tar_entries(file)):
        if count > MAX_FILES + 2:
            raise BundleError(f"got more than {MAX_FILES + 2} entries in the tar")
        if entry.folder:
            continue
        folder, name = _place(entry)
        folders.add(folder)
        if name in files or len(folders) > 1:
            raise BundleError(f"{entry.name!r}: expected each file once, all in one folder")
        if entry.size > max_bytes(name):
            raise _too_large(name)
        files[name] = file.read(entry.size)
        if len(files[name]) < entry.size:
            raise BundleError(f"{name!r}: the tar is cut off in it; copy it again")
    return files


def _place(entry: Entry) -> tuple[str, str]:
    """Folder and file name. One folder around all files is what `tar c bundle/` makes."""
    path = PurePosixPath(entry.name)
    if not entry.regular:
        raise BundleError(f"{entry.name!r}: expected ordinary files only, no links or devices")
    if path.is_absolute() or ".." in path.parts or not 1 <= len(path.parts) <= 2:
        raise BundleError(f"{entry.name!r}: expected a file in the top folder of the tar")
    return str(path.parent), path.name


def _too_large(name: str) -> BundleError:
    return BundleError(f"{name!r}: got more than {max_bytes(name)} bytes, expected at most that many")
