"""What a rendering may still do: every step is paid for, so that it ends soon, whatever the template says."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

from jinja2.exceptions import SecurityError as Refused

WORK: Final = 100_000
"""Steps that one rendering may take: a loop's turn costs ten, an operation one, and one for each 1,000 characters."""
TURN: Final = 10
LONGEST_TEXT: Final = 1_000_000
"""Characters of the result and of every text on the way to it."""


class Work:
    """What is left to spend in one rendering."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WORK

    def spend(self, steps: int) -> None:
        """Pay for ``steps``. :raises Refused: nothing is left."""
        self.left -= steps
        if self.left < 0:
            raise Refused("takes too many steps; loop over less, or use shorter texts")


current: ContextVar[Work] = ContextVar("edge_agent_template_work")


def spend(steps: int) -> None:
    """As :meth:`Work.spend`, of the rendering that runs."""
    left = current.get(None)
    if left is not None:
        left.spend(steps)


def size(value: Any) -> int:
    """Characters or items of ``value``."""
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 0


def bounded(text: str) -> str:
    """``text``, paid for. :raises Refused: it is too long."""
    spend(1 + len(text) // 1000)
    if len(text) > LONGEST_TEXT:
        raise Refused(f"makes a text of more than {LONGEST_TEXT} characters")
    return text


def metered(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, with its arguments and its result paid for; Jinja2's marks on it are kept."""

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        spend(1 + sum(size(value) for value in args) // 1000)
        result = function(*args, **kwargs)
        spend(size(result) // 1000)
        return result

    return paid
