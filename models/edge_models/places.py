"""Whether results can be written where they are wanted: asked before the work that makes them, nothing left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.errors import ConfigError, DataFileError


def check_new_folder(out: Path) -> None:
    """:raises DataFileError: ``out`` is there and not an empty folder. :raises ConfigError: it cannot be written."""
    with _explained(out, "a folder that can be written"):
        used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if used:
        raise DataFileError(f"{out}: exists and is not an empty folder, expected a new one for the bundle")
    check_folder(out)
    # A bundle is made beside its place and then moved there.
    check_folder(out.absolute().parent)


def check_folder(folder: Path) -> None:
    """:raises ConfigError: files cannot be written into ``folder``, or it cannot be made."""
    with _explained(folder, "a folder that can be written"):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        finally:
            for place in missing:
                with suppress(OSError):
                    place.rmdir()


def check_file(path: Path) -> None:
    """:raises ConfigError: ``path`` cannot be written; a file that is there keeps its content."""
    with _explained(path, "a file in a folder that exists and can be written"):
        new = not path.exists()
        if new or path.is_file():  # A reader of a pipe would take the first closing for the end.
            path.open("ab").close()
        if new:
            path.unlink()


@contextmanager
def _explained(path: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}; expected {expected}") from error
