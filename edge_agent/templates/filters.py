"""The filters that templates may use; each has a bounded result, and is paid for."""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson
from jinja2 import Undefined
from jinja2.exceptions import SecurityError as Refused
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from edge_agent.templates.meter import LONGEST_TEXT, TURN, WORK, bounded, metered, size, spend
from edge_agent.templates.units import (
    clock_text,
    duration_text,
    hour_text,
    percent_text,
    quantity_text,
    seconds_between,
)

LONGEST_RANGE: Final = 1_000
_FROM_JINJA: Final = """
    abs capitalize default d dictsort first float int items last length count list lower map max min reject rejectattr
    reverse select selectattr sort sum title trim truncate unique upper
"""
_TESTS: Final = """
    boolean defined divisibleby eq equalto even false float ge gt in integer iterable le lt mapping ne none number odd
    sequence string true undefined == != < <= > >= greaterthan lessthan
"""


def _turns(value: Any) -> list[Any]:
    """What a loop goes over, paid for in advance: loops within loops end as soon as one."""
    if isinstance(value, Undefined):
        iter(value)  # says what is undefined
    items = list(itertools.islice(iter(value), WORK // TURN + 1))
    spend(TURN * len(items))
    return items


def _paid(value: Any) -> Any:
    spend(1 + size(value) // 1000)
    return value


def shown(value: Any) -> Any:
    """What ``{{ … }}`` writes: nothing for None; lists and mappings have to say how."""
    if value is None:
        return ""
    if isinstance(value, str | bool | int | float | Undefined):
        return value
    kind = "mapping" if isinstance(value, Mapping) else "list"
    raise Refused(f"got a {kind}; write {{{{ … | join(', ') }}}} or {{{{ … | tojson }}}}")


def limited_range(*bounds: int) -> range:
    """``range`` of at most ``LONGEST_RANGE`` numbers."""
    numbers = range(*bounds)
    if len(numbers) > LONGEST_RANGE:
        raise Refused(f"range of {len(numbers)}, expected at most {LONGEST_RANGE}")
    return numbers


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    items = _turns(values)
    if attribute is not None:
        items = [item[attribute] for item in items]
    texts = [str(shown(item)) for item in items]
    if sum(map(len, texts)) + len(separator) * len(texts) > LONGEST_TEXT:
        raise Refused(f"join makes a text of more than {LONGEST_TEXT} characters")
    return bounded(separator.join(texts))


def _replace(text: str, old: str, new: str) -> str:
    text, old, new = str(text), str(old), str(new)
    if text.count(old) * len(new) + len(text) > LONGEST_TEXT:
        raise Refused(f"replace makes a text of more than {LONGEST_TEXT} characters")
    return bounded(text.replace(old, new))


def _round(value: float, digits: int = 0) -> float:
    if not 0 <= digits <= 12:
        raise ValueError(f"round takes 0 to 12 digits, got {digits}")
    return round(value, digits)


def _indent(text: str, width: int = 4) -> str:
    if not 0 <= width <= 40:
        raise ValueError(f"indent takes a width of 0 to 40, got {width}")
    return _replace(str(text), "\n", "\n" + " " * width)


def _tojson(value: Any) -> str:
    if isinstance(value, Undefined):
        str(value)  # says what is undefined
    return bounded(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode())


def _own_filters() -> dict[str, Callable[..., Any]]:
    return {
        "_turns": _turns,
        "_paid": _paid,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "indent": _indent,
        "tojson": _tojson,
        "string": lambda value: str(shown(value)),
        "escape": lambda text: html.escape(str(shown(text))),
        "urlencode": lambda text: quote(str(shown(text)), safe=""),
        "duration": duration_text,
        "time": clock_text,
        "clock": hour_text,
        "seconds_until": seconds_between,
        "quantity": quantity_text,
        "percent": percent_text,
    }


def filters() -> dict[str, Callable[..., Any]]:
    """Every filter by name."""
    jinja: dict[str, Any] = {name: FILTERS[name] for name in _FROM_JINJA.split()}
    return {name: metered(function) for name, function in (jinja | _own_filters()).items()}


def tests() -> dict[str, Callable[..., Any]]:
    """Every test (``is …``) by name."""
    jinja: dict[str, Any] = {name: TESTS[name] for name in _TESTS.split()}
    return {name: metered(function) for name, function in jinja.items()}
