"""Secrets by reference: ``${env:NAME}``, ``${file:/path}`` and ``${credential:name}`` inside any value.

References are resolved once, when the file is read. ``${credential:...}`` is a systemd credential (a file in
``$CREDENTIALS_DIRECTORY``, systemd.exec(5)). A literal ``${`` is written ``$${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.config.document import Document, Problem
from edge_agent.config.document import Path as OptionPath

MAX_SECRET_BYTES = 64 * 1024
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_SCHEMES = "expected ${env:NAME}, ${file:/path} or ${credential:name} (write $${ for the text ${)"


class Resolver:
    """Replaces references; remembers what it put in, so that messages can be kept free of it."""

    def __init__(self, document: Document, folder: Path, env: Mapping[str, str]) -> None:
        self._document = document
        self._folder = folder
        self._env = env
        self._hidden: dict[str, str] = {}
        self.written: dict[OptionPath, str] = {}
        """What the file says, for each option whose value came from a reference."""
        self.unresolved: set[OptionPath] = set()
        """Options with a reference that could not be followed; nothing more need be said about them."""

    def resolve(self, value: Any, path: OptionPath = ()) -> Any:
        """``value`` with all references in it replaced; problems go to the document."""
        if isinstance(value, dict):
            return {key: self.resolve(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return _REFERENCE.sub(lambda match: self._replace(match, value, path), value)
        return value

    def hide(self, message: str) -> str:
        """``message`` with every resolved secret replaced by the reference it came from."""
        for secret in sorted(self._hidden, key=len, reverse=True):
            message = message.replace(secret, self._hidden[secret])
        return message

    def _replace(self, match: re.Match[str], written: str, path: OptionPath) -> str:
        if match[1] is None:
            return "${"
        self.written[path] = written
        try:
            text = self._look_up(match[1])
        except _UnresolvedError as error:
            line = self._document.line(path)
            self.unresolved.add(path)
            self._document.problems.append(Problem(line, path, f"got {match[0]}, {error}"))
            return match[0]
        if len(text) > 3:
            self._hidden[text] = match[0]
        return text

    def _look_up(self, reference: str) -> str:
        scheme, _, name = reference.partition(":")
        if scheme == "env" and name:
            return self._environment(name)
        if scheme == "file" and name:
            return _read_secret(self._folder / name)
        if scheme == "credential" and name and "/" not in name:
            return _read_secret(self._credentials() / name)
        raise _UnresolvedError(_SCHEMES)

    def _environment(self, name: str) -> str:
        if name not in self._env:
            raise _UnresolvedError(f"but the environment variable {name} is not set")
        return self._env[name]

    def _credentials(self) -> Path:
        folder = self._env.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise _UnresolvedError("but $CREDENTIALS_DIRECTORY is not set; use LoadCredential= in the systemd unit")
        return Path(folder)


class _UnresolvedError(Exception):
    pass


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _UnresolvedError(f"but {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise _UnresolvedError(f"but {path} is larger than {MAX_SECRET_BYTES} bytes")
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise _UnresolvedError(f"but {path} is not UTF-8 text") from error
