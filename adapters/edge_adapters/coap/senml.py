"""SenML packs (RFC 8428) in JSON and CBOR, to numeric fields. Pure: the time of arrival comes in as an argument.

Base fields are resolved as section 4.6 says: each record is read as if it stood alone. Booleans become 0 and 1;
texts and opaque data cannot be scored, so they are left out and counted in :attr:`Pack.skipped`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import orjson

from edge_agent.errors import PayloadError
from edge_agent.payload import Field

_NS_PER_S: Final = 1_000_000_000
_RELATIVE_BELOW_S: Final = 2**28  # section 4.5.3: smaller times are relative to now
_VERSION: Final = 10
_MAX_NS: Final = 2**63 - 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")  # section 4.5.1
_VALUES: Final = ("v", "vb", "vs", "vd")
_CBOR_LABELS: Final[Mapping[Any, Any]] = {  # section 6, table 6
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
_KNOWN: Final = frozenset(_CBOR_LABELS.values())


@dataclass(frozen=True, slots=True)
class Pack:
    """What one pack held. ``skipped``: records without a numeric or boolean value (texts, data, bare sums)."""

    fields: list[Field]
    skipped: int


@dataclass(slots=True)
class _Base:
    """Base fields in force; a record changes them for itself and for all that follow (section 4.1)."""

    name: str = ""
    time: float | Decimal = 0
    unit: str | None = None
    value: float | Decimal = 0

    def update(self, record: Mapping[str, Any]) -> None:
        if "bver" in record and (version := _as_float(_number(record, "bver"))) > _VERSION:
            raise PayloadError("senml_version", f"SenML: got version {version:g}, expected {_VERSION} or less")
        if "bn" in record:
            self.name = _text(record, "bn")
        if "bt" in record:
            self.time = _number(record, "bt")
        if "bu" in record:
            self.unit = _text(record, "bu")
        if "bv" in record:
            self.value = _number(record, "bv")


def decode_json(payload: bytes, now_ns: int) -> Pack:
    """Read ``application/senml+json``. :raises PayloadError: the pack is not valid, as a whole."""
    try:
        records = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise PayloadError("json", f"SenML-JSON: {error}") from error
    return _resolve(records, now_ns, lambda record: record)


def decode_cbor(payload: bytes, now_ns: int) -> Pack:
    """Read ``application/senml+cbor``. :raises PayloadError: the pack is not valid, as a whole."""
    import cbor2

    try:
        records = cbor2.loads(payload)
    except (cbor2.CBORDecodeError, EOFError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as e:
        raise PayloadError("cbor", f"SenML-CBOR: {type(e).__name__}: {str(e)[:200]}") from e
    return _resolve(records, now_ns, _named)


def _named(record: Mapping[Any, Any]) -> Mapping[str, Any]:
    """``record`` with the integer labels of CBOR replaced by names; what is unknown stays."""
    return {_CBOR_LABELS.get(key, key) if type(key) is int else key: value for key, value in record.items()}


def _resolve(records: Any, now_ns: int, named: Callable[[Mapping[Any, Any]], Mapping[str, Any]]) -> Pack:
    if not isinstance(records, list):
        raise PayloadError("senml", f"SenML: got {type(records).__name__}, expected an array of records")
    base = _Base()
    fields: list[Field] = []
    skipped = 0
    for record in records:
        if not isinstance(record, Mapping):
            raise PayloadError("senml", f"SenML: got a record of type {type(record).__name__}, expected a map")
        field = _field(named(record), base, now_ns)
        if field is None:
            skipped += 1
        else:
            fields.append(field)
    return Pack(fields, skipped)


def _field(record: Mapping[str, Any], base: _Base, now_ns: int) -> Field | None:
    _refuse_unknown_mandatory(record)
    base.update(record)
    name = _name(base.name + (_text(record, "n") if "n" in record else ""))
    present = [label for label in _VALUES if label in record]
    if len(present) > 1:
        raise PayloadError("senml", f"SenML: record {name!r} has {' and '.join(present)}, expected one value")
    if present == ["vb"]:
        if not isinstance(record["vb"], bool):
            raise PayloadError("senml", f"SenML: vb of {name!r} is {_show(record['vb'])}, expected true or false")
        value = float(record["vb"])
    elif present == ["v"]:
        value = _as_float(_number(record, "v")) + _as_float(base.value)
    else:
        return None
    unit = _text(record, "u") if "u" in record else base.unit
    return Field(name=name, value=value, time_ns=_time_ns(record, base, now_ns), unit=unit)


def _refuse_unknown_mandatory(record: Mapping[str, Any]) -> None:
    """Section 4.4: a label that ends in ``_`` must be understood, or the pack be refused; others are ignored."""
    for label in record:
        if isinstance(label, str) and label not in _KNOWN and label.endswith("_"):
            raise PayloadError("senml", f"SenML: field {label!r:.60} must be understood and is not known here")


def _name(name: str) -> str:
    if len(name) > 255 or _NAME.fullmatch(name) is None:
        raise PayloadError("senml_name", f"SenML: name {name!r:.80} is empty, too long or has characters not allowed")
    return name


def _time_ns(record: Mapping[str, Any], base: _Base, now_ns: int) -> int | None:
    """Nanoseconds since 1970, or None for "now": the gateway's clock may be wrong, so it is not baked in."""
    offset = _number(record, "t") if "t" in record else 0
    rough_s = _as_float(base.time) + _as_float(offset)
    if rough_s == 0:
        return None
    if not math.isfinite(rough_s) or abs(rough_s) * _NS_PER_S >= _MAX_NS:
        raise PayloadError("senml_time", f"SenML: time {rough_s!r} is out of range")
    time_ns = _to_ns(base.time) + _to_ns(offset)
    return now_ns + time_ns if rough_s < _RELATIVE_BELOW_S else time_ns


def _to_ns(seconds: float | Decimal) -> int:
    """Nanoseconds without the rounding that ``seconds * 1e9`` would bring for today's dates.

    A double holds today's dates to a quarter of a microsecond; its last digits would put a time that a device gave as
    exactly that of a tick a few nanoseconds behind it, and so into the next one.
    """
    if isinstance(seconds, int):
        return seconds * _NS_PER_S
    if isinstance(seconds, float) and abs(seconds) >= _RELATIVE_BELOW_S:
        return round(seconds * 1e6) * 1000
    whole = math.floor(seconds)
    return whole * _NS_PER_S + round((seconds - whole) * _NS_PER_S)


def _number(record: Mapping[str, Any], label: str) -> float | Decimal:
    value = record[label]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    raise PayloadError("senml", f"SenML: {label} is {_show(value)}, expected a number")


def _as_float(value: float | Decimal) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError) as error:
        raise PayloadError("senml", "SenML: a number is too large") from error


def _text(record: Mapping[str, Any], label: str) -> str:
    value = record[label]
    if isinstance(value, str):
        return value
    raise PayloadError("senml", f"SenML: {label} is {_show(value)}, expected text")


def _show(value: Any) -> str:
    """``value`` for a message; containers and integers may be huge, so only their type is named."""
    return f"{value!r:.60}" if isinstance(value, str | float | bool | None) else f"of type {type(value).__name__}"
