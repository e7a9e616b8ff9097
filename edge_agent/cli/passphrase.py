"""Where passphrases and PINs of signing keys come from: never from the command line, where others could read them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from edge_agent.errors import ConfigError

PASSPHRASE = "EDGE_AGENT_OTA_PASSPHRASE"  # noqa: S105  # names of variables
PIN = "EDGE_AGENT_OTA_PIN"
_MAX_BYTES = 4_096


def asker(file: Path | None, descriptor: int | None, *, each: bool = False) -> Callable[[str, bool], str]:
    """Gives what is asked for: from a file or file descriptor, the environment, else from the terminal.

    New keys of one command share a passphrase that is typed once, unless ``each``.
    """
    given = _from_file(file, descriptor)
    typed: dict[str, str] = {}

    def ask(what: str, new: bool) -> str:
        if what.startswith("pin "):
            return os.environ.get(PIN) or _typed(what, PIN, new=False)
        found = given if given is not None else os.environ.get(PASSPHRASE)
        if found:
            return found
        key = what if each or not new else "passphrase of the new keys"
        if key not in typed or not new:
            typed[key] = _typed(key, PASSPHRASE, new=new)
        return typed[key]

    return ask


def _from_file(file: Path | None, descriptor: int | None) -> str | None:
    if file is None and descriptor is None:
        return None
    where = str(file) if file is not None else f"file descriptor {descriptor}"
    try:
        if file is not None:
            with file.open("rb") as stream:
                raw = stream.read(_MAX_BYTES)
        else:
            raw = os.read(descriptor if descriptor is not None else -1, _MAX_BYTES)
        text = raw.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"passphrase: {where}: cannot be read: {error}") from error
    if not text or "\n" in text:
        raise ConfigError(f"passphrase: {where}: expected one line with the passphrase")
    return text


def _typed(what: str, variable: str, *, new: bool) -> str:
    if not sys.stdin.isatty():
        raise ConfigError(f"{what}: nobody can be asked for it here; set {variable}, or give --passphrase-file")
    text: str = click.prompt(what.capitalize(), hide_input=True, confirmation_prompt=new, err=True)
    return text
