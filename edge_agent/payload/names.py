"""Sensor names from templates such as ``{area}.{sensor}`` or ``{device}.{path}``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edge_agent.errors import PayloadError

_TOKEN = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LONGEST_NAME = 256
_CACHED_NAMES = 4096

Path = tuple[str, ...]
"""Where in a payload a value is, outermost first."""

KEY, PATH = "key", "path"
"""Placeholders that every payload fills; the others come from the adapter (topic captures) or option ``labels``."""


class NameTemplate:
    """A compiled template; None means: all captures and the path, joined by dots.

    ``placeholders`` are those that captures or labels must fill. :raises ValueError: for stray braces.
    """

    def __init__(self, text: str | None) -> None:
        self.text = text
        tokens = frozenset(_TOKEN.findall(text or ""))
        if text is not None and (not text.strip() or set(_TOKEN.sub("", text)) & {"{", "}"}):
            raise ValueError(f"got {text!r}, expected a name with placeholders such as {{device}}.{{path}}")
        self.placeholders = tokens - {KEY, PATH}
        self._by_path = text is None or bool(tokens & {KEY, PATH})

    def render(self, captures: Mapping[str, str], path: Path) -> str:
        """The name. :raises PayloadError: reason ``name``, when a placeholder is not filled or the name is unusable."""
        if self.text is None:
            name = ".".join((*captures.values(), *path))
        else:
            values = {**captures, KEY: path[-1] if path else "", PATH: ".".join(path)} if self._by_path else captures
            try:
                name = _TOKEN.sub(lambda match: values[match[1]], self.text)
            except KeyError as error:
                raise PayloadError("name", f"name {self.text!r}: nothing fills the placeholder {error}") from error
        return _usable(name)


class Namer:
    """Names for one set of captures, rendered once each."""

    __slots__ = ("_captures", "_names", "_template")

    def __init__(self, template: NameTemplate, captures: Mapping[str, str]) -> None:
        self._template = template
        self._captures = captures
        self._names: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        name = self._names.get(path)
        if name is None:
            if len(self._names) >= _CACHED_NAMES:
                self._names.clear()  # keys come from outside: bounded, not remembered for ever
            name = self._names[path] = self._template.render(self._captures, path)
        return name

    def extended(self, labels: Mapping[str, str]) -> Namer:
        """A namer that also knows ``labels`` (they win over captures of the same name)."""
        return Namer(self._template, {**self._captures, **labels})


def _usable(name: str) -> str:
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise PayloadError(
            "name", f"name: got {name[:80]!r}, expected 1 to {_LONGEST_NAME} printable characters; see option `name`"
        )
    return name
