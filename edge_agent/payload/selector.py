"""A small, precompiled part of JSONPath (RFC 9535): where in a document a value is.

============== ==========================================================================
``$``           the whole document (``@``: the element, where the option says ``each``)
``.name``       member of an object; ``['any name']`` when it holds dots or brackets
``[2]``         element of an array, from 0; ``[-1]`` is the last
``[*]``, ``.*`` every element of an array, or every member of an object
``.max()``      at the end: the largest of what was found; ``.min()`` the smallest
============== ==========================================================================

Filters, slices and ``..`` are left out: what needs them is better said by the device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

MISSING: Final = object()
"""What :meth:`Selector.get` gives where there is nothing; JSON ``null`` is None."""

_EVERY: Final = object()
_STEP = re.compile(
    r"""\.(?P<function>max|min)\(\)$
      | \.(?P<name>[^\s.\[\]'"*()]+)
      | \[\s*(?P<index>-?\d{1,6})\s*\]
      | \[\s*'(?P<single>[^']+)'\s*\] | \[\s*"(?P<double>[^"]+)"\s*\]
      | (?P<every>\.\*|\[\s*\*\s*\])""",
    re.VERBOSE,
)
_FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {"max": max, "min": min}


class Selector:
    """A compiled selector. ``relative``: it starts at the element (``@``), not at the document (``$``).

    ``plain``: at most one value can match; ``path`` then holds the steps, else None.
    :raises ValueError: for bad syntax.
    """

    def __init__(self, text: str) -> None:
        if text[:1] not in ("$", "@"):
            raise ValueError(f"got {text!r}, expected a selector starting with $, such as $.data.temperature")
        self.text = text
        self.relative = text[0] == "@"
        self._function: str | None = None
        self._steps = tuple(self._parse(text))
        self.plain = self._function is None and _EVERY not in self._steps
        self.path = tuple(str(step) for step in self._steps) if self.plain else None
        self.get: Callable[[Any], Any] = self._getter()

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"

    def find(self, document: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Each match with the path that the wildcards took (empty when ``plain``); the caller may stop at any time."""
        if self.plain or self._function is not None:
            value = self.get(document)
            return iter(() if value is MISSING else (((), value),))
        return _matches(document, self._steps, ())

    def _parse(self, text: str) -> Iterator[Any]:
        at = 1
        while at < len(text):
            match = _STEP.match(text, at)
            if match is None:
                raise ValueError(
                    f"got {text!r}, not understood from {text[at:]!r} on; expected .name, ['name'], [0], [*] or .max()"
                )
            at = match.end()
            if match["function"]:
                self._function = match["function"]
            elif match["every"]:
                yield _EVERY
            elif match["index"]:
                yield int(match["index"])
            else:
                yield match["name"] or match["single"] or match["double"]

    def _getter(self) -> Callable[[Any], Any]:
        if not self.plain:
            return self._combined
        if len(self._steps) == 1 and isinstance(self._steps[0], str):
            return _member(self._steps[0])
        return self._descend

    def _descend(self, document: Any) -> Any:
        for step in self._steps:
            # Checked, because indexing a text by a number would give a character.
            if type(document) is not (dict if type(step) is str else list):
                return MISSING
            try:
                document = document[step]
            except (KeyError, IndexError):
                return MISSING
        return document

    def _combined(self, document: Any) -> Any:
        numbers = [value for _, value in _matches(document, self._steps, ()) if type(value) in (int, float)]
        return _FUNCTIONS[self._function or "max"](numbers) if numbers else MISSING


def _matches(node: Any, steps: tuple[Any, ...], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for at, step in enumerate(steps):
        if step is _EVERY:
            for key, child in children(node):
                yield from _matches(child, steps[at + 1 :], (*path, key))
            return
        if not _has(node, step):
            return
        node = node[step]
    yield path, node


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """Members of an object or elements of an array with their key as text; nothing for anything else."""
    if type(node) is dict:
        yield from node.items()
    elif type(node) is list:
        for index, child in enumerate(node):
            yield str(index), child


def _has(node: Any, step: Any) -> bool:
    if type(step) is str:
        return type(node) is dict and step in node
    return type(node) is list and -len(node) <= step < len(node)


def _member(name: str) -> Callable[[Any], Any]:
    def get(document: Any) -> Any:
        return document.get(name, MISSING) if type(document) is dict else MISSING

    return get
