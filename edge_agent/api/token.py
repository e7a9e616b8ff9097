"""The token that lets the commands on this machine change the running daemon."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
from pathlib import Path

from edge_agent.api.options import is_token
from edge_agent.errors import StoreError
from edge_agent.options import Secret

_log = logging.getLogger(__name__)
_MAX_BYTES = 1024


def load_or_create_token(path: Path) -> Secret:
    """The token in ``path``; made with mode 0600 when there is none.

    A file that everybody may read, or that holds no token, is replaced with a new one and that is said in the log:
    the agent starts in any case, and whoever knew the old token no longer counts.

    :raises StoreError: the file cannot be read or written.
    """
    try:
        found = _read(path)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    return found if found is not None else _create(path)


def read_token(path: Path) -> Secret | None:
    """The token in ``path`` for a client, or None when there is no such file or we may not read it."""
    try:
        text = path.read_bytes()[:_MAX_BYTES].decode("ascii", "replace").strip()
    except OSError:
        return None
    return Secret(text) if is_token(text) else None


def _read(path: Path) -> Secret | None:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(_MAX_BYTES).decode("ascii", "replace").strip()
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        _log.warning("%s has mode %04o, which lets others at it; making a new token", path, stat.S_IMODE(mode))
        return None
    if not is_token(text):
        _log.warning("%s holds no token of 16 characters or more; making a new one", path)
        return None
    return Secret(text)


def _create(path: Path) -> Secret:
    token = secrets.token_urlsafe(32)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(token.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return Secret(token)
