"""The words and signs of an expression. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from edge_agent.rules.tree import ExpressionError

KEYWORDS = frozenset({"and", "or", "not", "for"})
_TOKEN = re.compile(
    r"""
      (?P<number>   (?: [0-9]+ (?:\.[0-9]+)? | \.[0-9]+ ) (?:[eE][+-]?[0-9]+)? ) (?P<unit>[^\W\d_]+)?
    | (?P<word>     [^\W\d]\w* (?:\.\w+)* )
    | (?P<quoted>   `[^`\n]*` )
    | (?P<text>     "(?:[^"\\\n]|\\["\\])*" | '(?:[^'\\\n]|\\['\\])*' )
    | (?P<operator> ==|!=|<=|>=|[-+*/<>(),\[\]] )
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_ADVICE = {"=": "`==`", "&&": "`and`", "&": "`and`", "||": "`or`", "|": "`or`", "!": "`not` or `!=`"}
_FOREIGN = re.compile(r"&&?|\|\|?|=|!|\S")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number, name or sign; ``at`` is where it stands, ``unit`` follows a number."""

    kind: str
    text: str
    at: int
    unit: str | None = None


END = "end"


def tokens(text: str) -> list[Token]:
    """What ``text`` is made of, and an end. :raises ExpressionError: something in it has no meaning."""
    found: list[Token] = []
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space is not None else at
        if at == len(text):
            return [*found, Token(END, "", at)]
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse(text, at)
        kind = str(match.lastgroup) if match["number"] is None else "number"
        found.append(Token(kind, match[kind], at, match["unit"]))
        at = match.end()


def _refuse(text: str, at: int) -> NoReturn:
    foreign = _FOREIGN.match(text, at)
    what = foreign[0] if foreign is not None else text[at]
    if what in "\"'`":
        raise ExpressionError(text, at, f"got {what} without its end on the same line, expected another {what}")
    advice = f"; write {_ADVICE[what]}" if what in _ADVICE else ""
    raise ExpressionError(text, at, f"got {what!r}, which has no meaning here{advice}")
