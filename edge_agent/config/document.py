"""YAML text to plain values, each with the line it was written on.

Read by the rules of YAML 1.2, so that ``on``, ``off``, ``yes`` and ``no`` are text, ``010`` is ten and keys are always
text (a sensor may be called ``on`` or ``007``). Booleans are ``true`` and ``false``; an option that wants a boolean
takes the other words too. Every mistake is collected, not only the first one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 4 * 2**20
MAX_NODES = 200_000
"""After anchors are followed: a few lines of nested anchors can stand for thousands of millions of values."""
MAX_DEPTH = 64

Path = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
    ".NaN": float("nan"),
}
_CORE_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    _CORE_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map")
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where in the text (line counts from 1), at which option, and what is wrong."""

    line: int
    path: Path
    message: str


@dataclass(slots=True)
class Document:
    """The values of a YAML file; ``lines`` knows the line of each option, ``problems`` what could not be read."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of ``path``, or of the nearest option around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def where(self, problem: Problem, file: str) -> str:
        """The place of a mistake for messages; ``file`` is what the text was read from."""
        return f"{file}:{problem.line}"

    def place(self, path: Path, file: str) -> str:
        """Where ``path`` is written."""
        return f"{file}:{self.line(path)}"


def read_document(text: str) -> Document:
    """Parse ``text``; never raises, what is wrong is in ``problems``."""
    document = Document()
    if len(text.encode(errors="replace")) > MAX_BYTES:
        document.problems.append(Problem(1, (), f"the file is larger than {MAX_BYTES // 2**20} MiB"))
        return document
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            document.value = _Reader(document).read(node, ())
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(error, text))
    except yaml.YAMLError as error:  # a character that YAML does not allow
        document.problems.append(Problem(1, (), f"not YAML: {' '.join(str(error).split())}"))
    except RecursionError:
        document.problems.append(Problem(1, (), f"nested deeper than {MAX_DEPTH} levels"))
    except _TooLargeError as error:
        document.problems.append(Problem(1, (), str(error)))
    return document


class _TooLargeError(Exception):
    pass


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def read(self, node: Node, path: Path) -> Any:
        self._count(path)
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace(_CORE_TAG, "!!")
            self._problem(node.start_mark.line + 1, path, f"got the tag {tag}, expected a plain value")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _count(self, path: Path) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooLargeError(f"more than {MAX_NODES} values once anchors are followed")
        if len(path) > MAX_DEPTH:
            raise _TooLargeError(f"nested deeper than {MAX_DEPTH} levels (does an anchor contain itself?)")

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._problem(line, path, "got a list or mapping as option name, expected text")
                continue
            key = key_node.value
            if key == "<<" and key_node.style is None:
                merged |= self._merge(value_node, path)
                continue
            here = (*path, key)
            if key in values:
                self._problem(line, here, f"is given twice (first on line {self._document.lines[here]}); remove one")
                continue
            self._document.lines[here] = line
            values[key] = self.read(value_node, here)
        return merged | values

    def _merge(self, node: Node, path: Path) -> dict[str, Any]:
        """``<<: *anchor``: values of the mapping(s), the first one winning; what is written out wins over both."""
        parts = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                self._problem(node.start_mark.line + 1, path, "`<<` takes an anchored mapping, such as `<<: *defaults`")
                continue
            merged = self._mapping(part, path) | merged
        for key in merged:
            # A key that is also written out must not look like given twice.
            self._document.lines.pop((*path, key), None)
        return merged

    def _problem(self, line: int, path: Path, message: str) -> None:
        self._document.problems.append(Problem(line, path, message))


def _scalar(node: Node) -> Any:
    text: str = node.value
    if isinstance(node, ScalarNode) and node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return text if node.tag == f"{_CORE_TAG}str" else _whole_number(text)
    if text.startswith(("0x", "0o")):
        return _prefixed(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _whole_number(text: str) -> int | str:
    # `007` may be a name as well: text keeps its zeros, and an option that wants a number reads ten from `010`.
    digits = text.lstrip("+-")
    if (len(digits) > 1 and digits[0] == "0") or len(digits) > 30:
        return text
    return int(text)


def _prefixed(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    lines = text.splitlines()
    if line <= len(lines) and "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]:
        return Problem(line, (), "got a tab at the start of the line; YAML is indented with spaces only")
    what = ": ".join(part for part in (error.context, error.problem) if part)
    return Problem(line, (), f"not YAML: {what}")
