"""Taking in an uploaded bundle: to disk as it arrives, never more than allowed, gone when it is no longer needed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from aiohttp import web

from edge_agent.errors import ControlError

_PREFIX, _SUFFIX = "upload-", ".bundle.tar"
_CHUNK = 1 << 18


@asynccontextmanager
async def received_bundle(request: web.Request, folder: Path, max_bytes: int) -> AsyncIterator[Path]:
    """The body as a file (mode 0600) that is deleted afterwards.

    :raises ControlError: 413 too large, 400 nothing or not all arrived, 507 cannot be stored.
    """
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    try:
        file = await asyncio.to_thread(_create, folder)
    except OSError as error:
        raise ControlError(f"upload cannot be stored in {folder}: {error.strerror}", status=507) from error
    path = Path(file.name)
    try:
        with file:
            await _copy(request, file, max_bytes)
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def remove_leftovers(folder: Path) -> None:
    """Delete uploads that a crash has left behind."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            path.unlink()


def _create(folder: Path) -> IO[bytes]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(prefix=_PREFIX, suffix=_SUFFIX, dir=folder, delete=False)


async def _copy(request: web.Request, file: IO[bytes], max_bytes: int) -> None:
    size = 0
    try:
        async for chunk in request.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.flush)
    except web.HTTPException:
        raise
    except (ConnectionError, web.RequestPayloadError) as error:
        raise ControlError("upload: the connection ended before the bundle was complete", status=400) from error
    except OSError as error:
        raise ControlError(f"upload cannot be stored: {error.strerror}", status=507) from error
    if size == 0:
        raise ControlError("upload: got an empty body, expected a model bundle (tar)", status=400)


def _too_large(max_bytes: int) -> ControlError:
    return ControlError(f"upload: larger than {max_bytes} bytes (option api.max_bundle)", status=413)
