"""Text files, plain or compressed, with errors that say what to do."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from edge_agent.errors import DataFileError


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """The file as UTF-8 text, uncompressed when it ends in ``.gz``.

    :raises DataFileError: it cannot be opened, or what is read inside turns out damaged.
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield cast(TextIO, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataFileError(f"{path}: damaged gzip: {error}; export it again") from error
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except csv.Error as error:
        raise DataFileError(f"{path}: not CSV: {error}") from error
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror or error}") from error
