"""OSCORE contexts from their folders, held for as long as the endpoint is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiocoap.credentials import CredentialsMap

from edge_agent.errors import AdapterError, RetryableAdapterError

_INSTALL = "OSCORE needs more packages: pip install 'edge-graph-agent[coap]'"


@asynccontextmanager
async def oscore_credentials(folders: Mapping[str, Path]) -> AsyncIterator[CredentialsMap]:
    """The contexts in ``folders`` by URI pattern or label; their locks are released at the end.

    A folder used twice gives the same context.
    :raises RetryableAdapterError: another program uses a context.
    :raises AdapterError: a context cannot be used, and why.
    """
    credentials = CredentialsMap()
    contexts: dict[Path, Any] = {}
    try:
        for label, folder in folders.items():
            if folder not in contexts:
                contexts[folder] = await asyncio.to_thread(_load, folder)
            credentials[label] = contexts[folder]
        yield credentials
    finally:
        for context in contexts.values():
            # Writes the sequence number and releases the lock; the library would do so only when collected.
            await asyncio.to_thread(context._destroy)


def _load(folder: Path) -> Any:
    try:
        import filelock
        from aiocoap.oscore import FilesystemSecurityContext
    except ImportError as error:
        raise AdapterError(f"{_INSTALL} ({error})") from error
    if not folder.is_dir():
        raise AdapterError(f"OSCORE context {folder}: expected a folder with settings.json; it is not there")
    context: Any = FilesystemSecurityContext.__new__(FilesystemSecurityContext)
    try:
        context.__init__(str(folder))  # in two steps, because a constructor that fails would keep the folder locked
    except filelock.Timeout as error:
        text = f"OSCORE context {folder}: in use by another program (its file `lock` is held)"
        raise RetryableAdapterError(text) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (lock := getattr(context, "lockfile", None)) is not None:
            lock.release()
            context.lockfile = None
        raise AdapterError(f"OSCORE context {folder}: {type(error).__name__}: {error}") from error
    context.authenticated_claims = [str(folder)]
    return context
