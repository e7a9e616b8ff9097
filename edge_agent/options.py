"""What every options class is made of: strict, immutable, with units in the values (``5s``, ``10MB``, ``1 per week``).

The ``description`` of a field is its documentation: the reference pages and the sample file are rendered from it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema


class Options(BaseModel):
    """Base of all options: unknown keys are errors, values cannot change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


DURATION_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def parse_duration(value: Any) -> float:
    """Seconds from text such as ``250ms``, ``5s`` or ``7d``. :raises ValueError: saying what was expected."""
    return _quantity(value, DURATION_UNITS, "a duration with its unit, such as 250ms, 5s, 2m, 1h or 7d")


def parse_size(value: Any) -> int:
    """Bytes from text such as ``512kB`` or ``10MB``. :raises ValueError: saying what was expected."""
    return int(_quantity(value, _SIZE_UNITS, "a size with its unit, such as 512kB, 10MB or 1GiB"))


def parse_rate(value: Any) -> float:
    """Events per second from text such as ``1 per week``. :raises ValueError: saying what was expected."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s+per\s+(minute|hour|day|week|month)\s*", str(value))
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"got {value!r}, expected a rate such as '1 per week' or '2 per day'")
    seconds = {"minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2629800.0}
    return float(match[1]) / seconds[match[2]]


def _quantity(value: Any, units: dict[str, Any], expected: str) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool) and value == 0:
        return 0.0
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"got {value!r}, expected {expected}")
    return float(match[1]) * float(units[match[2]])


_TEXT = {"type": "string"}
Duration = Annotated[
    float, BeforeValidator(parse_duration), WithJsonSchema({**_TEXT, "examples": ["250ms", "5s", "1h"]})
]
"""Seconds; written ``5s`` in a file. Defaults are given parsed: ``timeout: Duration = Field(default=5.0)``."""
ByteSize = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({**_TEXT, "examples": ["512kB", "10MB"]})]
"""Bytes; written ``10MB``."""
Rate = Annotated[float, BeforeValidator(parse_rate), WithJsonSchema({**_TEXT, "examples": ["1 per week"]})]
"""Events per second; written ``1 per week``."""


def format_duration(seconds: float) -> str:
    """The shortest text that :func:`parse_duration` reads back as ``seconds``."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds >= DURATION_UNITS[unit] and seconds % DURATION_UNITS[unit] == 0:
            return f"{seconds / DURATION_UNITS[unit]:.12g}{unit}"
    return f"{seconds * 1000:.12g}ms" if seconds < 1 else f"{seconds:.12g}s"


class Secret:
    """A password or token. It never shows in ``repr``, logs or JSON; :meth:`reveal` gives the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself: hand it to the library that needs it, nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def validate(value: Any) -> Secret:
            if isinstance(value, Secret):
                return value
            if isinstance(value, str):
                return cls(value)
            raise ValueError("expected text, or a reference such as ${env:NAME} or ${file:/path}")

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "***")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "password"}
