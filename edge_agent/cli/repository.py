"""A first look at the repository of updates: is it there, and is there a root to start from?

Nothing is verified here; that is done where it counts, by the daemon's look itself.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_agent.errors import AdapterError, OtaError
from edge_agent.ota.options import OtaOptions
from edge_agent.tls import client_context

MAX_ROOT_BYTES = 512_000
_MAX_TIMESTAMP_BYTES = 16_384


def read_root(path: Path) -> tuple[int, str]:
    """Version of the root metadata at ``path``, and when it expires.

    :raises OtaError: reason ``damaged_trust``; it cannot be read, or is no root metadata (TUF specification 4.3).
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise OtaError("damaged_trust", f"{path} cannot be read: {error.strerror}") from error
    signed = _signed(content, str(path)) if len(content) <= MAX_ROOT_BYTES else {}
    version, expires = signed.get("version"), signed.get("expires")
    if signed.get("_type") != "root" or not isinstance(version, int) or not isinstance(expires, str):
        raise OtaError("damaged_trust", f"{path} is not root metadata, expected the repository's `root.json`")
    return version, expires


async def reach_repository(options: OtaOptions, timeout_s: float) -> str | None:
    """None when the timestamp metadata of the repository is there, else what was in the way."""
    try:
        if options.root is not None:
            await asyncio.to_thread(read_root, options.root)
        async with asyncio.timeout(timeout_s):
            content = await _timestamp(options)
        if _signed(content, "timestamp.json").get("_type") != "timestamp":
            raise OtaError("mismatch", "timestamp.json is not timestamp metadata, expected that of a TUF repository")
    except TimeoutError:
        return f"{options.repository}: not reached within {timeout_s:g} s"
    except (OtaError, AdapterError) as error:
        return f"{options.repository}: {error}"
    return None


async def _timestamp(options: OtaOptions) -> bytes:
    address = f"{options.repository}/metadata/timestamp.json"
    if address.startswith("file:"):
        try:
            return await asyncio.to_thread(Path(unquote(urlsplit(address).path)).read_bytes)
        except OSError as error:
            raise OtaError("unreachable", f"metadata/timestamp.json cannot be read: {error.strerror}") from error
    return await _fetched(address, options)


async def _fetched(address: str, options: OtaOptions) -> bytes:
    import aiohttp

    context: ssl.SSLContext | bool = True
    if options.tls is not None:
        context = await asyncio.to_thread(client_context, options.tls)
    name = options.tls.server_name if options.tls is not None else None
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(address, ssl=context, server_hostname=name, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise OtaError("unreachable", f"metadata/timestamp.json: got status {answer.status}, expected 200")
            return await answer.content.read(_MAX_TIMESTAMP_BYTES)
    except aiohttp.ClientError as error:
        raise OtaError("unreachable", f"cannot be reached: {error}") from error


def _signed(content: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise OtaError("damaged_trust", f"{what} is not JSON: {error}") from error
    signed = found.get("signed") if isinstance(found, dict) else None
    return signed if isinstance(signed, dict) else {}
