"""One agent for each data folder: two would take each other's events away and overwrite what the other has learned."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.durable import make_folder
from edge_agent.errors import ConfigError

_NAME = "lock"
_log = logging.getLogger(__name__)


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Have ``folder``, which is made where it is missing, to ourselves. A crash, too, gives it back.

    Where it cannot be told whether another agent has it (read-only, full, no locks) it is taken to be ours.
    :raises ConfigError: another agent has it, or it cannot be made.
    """
    make_data_folder(folder)
    try:
        descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _log.warning(
            "%s: cannot be opened: %s; not known whether another agent is here", folder / _NAME, error.strerror
        )
        yield
        return
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def make_data_folder(folder: Path) -> None:
    """Make ``folder`` if it is missing. :raises ConfigError: it cannot be made."""
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"agent.data_dir: cannot make {folder}: {error.strerror}; expected a folder that the agent may write to"
        ) from error


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)  # for whoever comes next
    except BlockingIOError as error:
        who = os.pread(descriptor, 20, 0).decode(errors="replace")
        raise ConfigError(
            f"agent.data_dir: {folder} is in use by the agent that is process {who or 'unknown'}, expected a folder "
            "of its own for each agent; stop that one, or set another folder"
        ) from error
    except OSError as error:
        _log.warning("%s: %s; not known whether another agent is here", folder / _NAME, error.strerror)
