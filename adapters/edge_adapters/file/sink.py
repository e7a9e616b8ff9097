"""The file sink: one line of JSON an event."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from edge_adapters.file.options import FileOptions, Sync
from edge_adapters.file.rotating import RotatingFile
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.verdict import Event

_STDOUT: Final = 1
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOENT, errno.ENXIO})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class FileSink:
    """See :class:`edge_agent.contract.Sink`. Files are written in a thread; the event loop never waits for a disk."""

    def __init__(self, options: FileOptions, context: AdapterContext) -> None:
        self._context = context
        self._path = options.path
        self._file = None if options.path == "-" else _rotating(options)

    async def open(self) -> None:
        """Open the file. :raises RetryableAdapterError: disk full or not mounted. :raises AdapterError: not allowed."""
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.open)
            except OSError as error:
                raise self._failure(error) from error
        self._context.connected("standard output" if self._file is None else self._path)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Append all ``events``, or none of them. :raises RetryableAdapterError, AdapterError: as for :meth:`open`."""
        lines = b"".join(_line(event) for event in events)
        try:
            await asyncio.to_thread(_to_stdout if self._file is None else self._file.append, lines)
        except OSError as error:
            raise self._failure(error) from error
        self._context.connected(self._path)

    async def close(self) -> None:
        """Close the file; a write that was under way when we were told to stop is finished first."""
        if self._file is not None:
            await asyncio.to_thread(self._file.close)

    def _failure(self, error: OSError) -> AdapterError:
        where = "standard output" if self._file is None else self._path
        reason = error.strerror or str(error)
        failure = AdapterError(f"{where}: cannot be written: {reason}")
        if error.errno in _FULL:
            failure = RetryableAdapterError(
                f"{where}: the disk is full ({reason}); free some space, or lower `max_files`"
            )
        elif error.errno in _PASSING:
            failure = RetryableAdapterError(f"{where}: cannot be written now: {reason}")
        self._context.disconnected(str(failure))
        return failure


def _rotating(options: FileOptions) -> RotatingFile:
    return RotatingFile(Path(options.path), options.max_size, options.max_files, options.sync is Sync.BATCH)


def _line(event: Event) -> bytes:
    document = event.message()
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


def _to_stdout(lines: bytes) -> None:
    while lines:
        lines = lines[os.write(_STDOUT, lines) :]
