"""Syslog messages (RFC 5424) and their frames (RFC 6587, RFC 5426). Pure: facts in, bytes out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from edge_adapters.syslog.cef import cef
from edge_adapters.syslog.facts import Facts
from edge_adapters.syslog.ocsf import ocsf
from edge_adapters.syslog.options import Format, Framing, SyslogOptions
from edge_adapters.syslog.text import text
from edge_agent.verdict import Severity, rfc3339

NIL: Final = "-"
_NS_PER_MS: Final = 1_000_000
_LAST_SEQUENCE: Final = 2**31 - 1
_CRITICAL, _ERROR, _WARNING, _NOTICE, _INFO = 2, 3, 4, 5, 6
_SEVERITIES: Final = {
    Severity.LOW: _NOTICE,
    Severity.MEDIUM: _WARNING,
    Severity.HIGH: _ERROR,
    Severity.CRITICAL: _CRITICAL,
}
_BOM: Final = b"\xef\xbb\xbf"
# No control character gets into a log from outside: line ends begin new messages, others drive terminals.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]+")
_INVISIBLE: Final = re.compile(r"[^!-~]+")
_LONGEST_VALUE: Final = 500


class Messages:
    """Makes messages of events, numbered through (RFC 5424, 7.3.1), so that a receiver sees when some are missing."""

    def __init__(self, options: SyslogOptions, process_id: str, version: str) -> None:
        self._options = options
        self._process_id = process_id
        self._version = version
        self._sequence = 0

    def message(self, known: Facts) -> tuple[bytes, bool]:
        """The message, and whether it had to be cut: it was too long even without its details."""
        self._sequence = self._sequence % _LAST_SEQUENCE + 1
        for brief in (False, True):
            made = self._message(known, brief=brief)
            if len(made) <= self._options.effective_length:
                return made, False
        return cut(made, self._options.effective_length), True

    def _message(self, known: Facts, *, brief: bool) -> bytes:
        options = self._options
        fields = (
            f"<{options.facility.number * 8 + priority(known)}>1",
            rfc3339(known.time_ms * _NS_PER_MS),
            visible(options.hostname or known.agent, 255),
            options.app_name,
            self._process_id,
            visible(known.kind.value, 32),
            self._structured(known, brief=brief),
        )
        mark = _BOM if options.byte_order_mark else b""
        return " ".join(fields).encode() + b" " + mark + self._body(known, brief=brief)

    def _body(self, known: Facts, *, brief: bool) -> bytes:
        if self._options.format is Format.OCSF:
            document = orjson.dumps(ocsf(known, self._version, brief=brief), option=orjson.OPT_SERIALIZE_NUMPY)
            return _CONTROLS.sub(_json_escape, document.decode()).encode()
        if self._options.format is Format.CEF:
            line = cef(known, self._version, brief=brief)
        else:
            line = text(known, brief=brief)
        return _CONTROLS.sub(" ", line).encode(errors="replace")

    def _structured(self, known: Facts, *, brief: bool) -> str:
        if not self._options.structured_data:
            return NIL
        params: dict[str, Any] = {"id": known.event_id, "agent": known.agent, "incident": known.incident}
        if known.state is not None:
            params["state"] = known.state.value
        if known.severity is not None:
            params["severity"] = known.severity.value
        params["kind"] = known.incident_kind
        if not brief:
            params |= {
                "sensors": ",".join(known.sensor_names),
                "areas": ",".join(known.areas),
                "rules": ",".join(known.rules),
                "techniques": ",".join(known.techniques),
                "p_value": "" if known.p_value is None else f"{known.p_value:.6g}",
                "suppressed": known.suppressed,
            }
        if known.replayed:
            params["replayed"] = "true"
        meta = element("meta", {"sequenceId": str(self._sequence)})
        return meta + element(f"edge@{self._options.enterprise_number}", params)


def _json_escape(found: re.Match[str]) -> str:
    return "".join(f"\\u{ord(character):04x}" for character in found[0])


def priority(known: Facts) -> int:
    """Severity of RFC 5424, table 2. Closing an incident alarms nobody."""
    if known.severity is None:
        return _INFO
    return _NOTICE if known.over or known.suppressed else _SEVERITIES[known.severity]


def element(name: str, params: Mapping[str, str]) -> str:
    """One element of structured data; empty values are left out."""
    pairs = (f' {key}="{escaped(value)}"' for key, value in params.items() if value)
    return f"[{name}{''.join(pairs)}]"


def escaped(value: str) -> str:
    """A value of structured data: quote, backslash and closing bracket escaped (RFC 5424, 6.3.3), controls blanked."""
    flat = _CONTROLS.sub(" ", value)[:_LONGEST_VALUE]
    return re.sub(r'(["\\\]])', r"\\\1", flat)


def visible(value: str, longest: int) -> str:
    """A field of the header: visible ASCII characters only, other ones as ``_``; the NIL value for an empty one."""
    return _INVISIBLE.sub("_", value)[:longest] or NIL


def cut(message: bytes, longest: int) -> bytes:
    """At most ``longest`` bytes of ``message``, never half a UTF-8 character (RFC 5424, 6.1)."""
    if len(message) <= longest:
        return message
    return message[:longest].decode(errors="ignore").encode()


def framed(message: bytes, framing: Framing) -> bytes:
    """The message as it goes into a stream: octet counting (RFC 6587, 3.4.1) or a line end behind it (3.4.2)."""
    if framing is Framing.OCTET_COUNTING:
        return b"%d %b" % (len(message), message)
    return message + b"\n"
