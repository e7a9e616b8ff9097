"""Topics and payloads of updates: nudges from the publisher, status reports of gateways. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from edge_agent.contract import Hint
from edge_agent.errors import AdapterError, PayloadError

MAX_NUDGE_BYTES = 1_024
MAX_REPORT_BYTES = 16_384
MAX_SPREAD_S = 3_600.0
_MAX_COUNTER = 2**53 - 1  # beyond it, JSON numbers are not the same for everybody (RFC 8259 section 6)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAKES = '{"counter": 7, "spread_s": 20}'


def nudge_topic(prefix: str, fleet: str, ring: str) -> str:
    """Where the gateways of ``ring`` listen. :raises AdapterError: a name has characters that topics give a meaning."""
    return f"{prefix}/v1/{_name(fleet)}/{_name(ring)}/nudge"


def status_topic(prefix: str, fleet: str, gateway: str) -> str:
    """Where ``gateway`` keeps its latest report. :raises AdapterError: as for :func:`nudge_topic`."""
    return f"{prefix}/v1/{_name(fleet)}/{_name(gateway)}/ota/status"


def status_filter(prefix: str, fleet: str) -> str:
    """Subscription to the reports of all gateways of ``fleet``. :raises AdapterError: as for :func:`nudge_topic`."""
    return f"{prefix}/v1/{_name(fleet)}/+/ota/status"


def nudge_json(hint: Hint) -> bytes:
    """What :func:`parse_nudge` reads."""
    counter = {} if hint.counter is None else {"counter": hint.counter}
    return orjson.dumps(counter | {"spread_s": hint.spread_s})


def parse_nudge(payload: bytes | None) -> Hint:
    """The hint in ``payload`` (None: it was too long to be read). A spread above an hour counts as one.

    :raises PayloadError: reason ``too_long`` or ``malformed``.
    """
    if payload is None or len(payload) > MAX_NUDGE_BYTES:
        raise PayloadError("too_long", f"nudge: got more than {MAX_NUDGE_BYTES} bytes, expected {_TAKES}")
    try:
        fields = orjson.loads(payload)
    except ValueError as error:
        raise PayloadError("malformed", f"nudge: got {payload[:80]!r}, expected {_TAKES}") from error
    if not isinstance(fields, Mapping) or not fields.keys() <= {"counter", "spread_s"}:
        raise PayloadError("malformed", f"nudge: got {payload[:80]!r}, expected {_TAKES}")
    return Hint(_counter(fields.get("counter")), _spread_s(fields.get("spread_s", 0)))


def _counter(value: object) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= _MAX_COUNTER):
        raise PayloadError("malformed", f"nudge: counter: got {value!r:.40}, expected a whole number from 0")
    return value


def _spread_s(value: object) -> float:
    if (type(value) is not int and type(value) is not float) or not value >= 0:
        raise PayloadError("malformed", f"nudge: spread_s: got {value!r:.40}, expected seconds from 0")
    return min(float(value), MAX_SPREAD_S)


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise AdapterError(f"got the name {text!r:.80}, expected 1 to 64 letters, digits, `_`, `.` or `-`")
    return text
