"""Bodies of requests and responses to batches: SenML by its Content-Format, everything else by the payload options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edge_adapters.coap import senml
from edge_adapters.coap.options import Assume, ResourceOptions
from edge_agent.contract import AdapterContext
from edge_agent.errors import PayloadError
from edge_agent.payload import Field, PayloadFormat, build_decoder
from edge_agent.payload.names import Namer, NameTemplate
from edge_agent.sample import Batch

TEXT: Final = 0
OCTETS: Final = 42
JSON: Final = 50
SENML_JSON: Final = 110
SENML_CBOR: Final = 112

_ACCEPTED: Final[Mapping[PayloadFormat, frozenset[int]]] = {
    PayloadFormat.AUTO: frozenset({TEXT, JSON}),
    PayloadFormat.NUMBER: frozenset({TEXT}),
    PayloadFormat.JSON: frozenset({TEXT, JSON}),  # much firmware sends JSON as text/plain
    PayloadFormat.CSV: frozenset({TEXT}),
    PayloadFormat.RAW: frozenset({OCTETS}),
}
_ASSUMED: Final = {Assume.SENML_JSON: SENML_JSON, Assume.SENML_CBOR: SENML_CBOR}
_SENML: Final = {SENML_JSON: senml.decode_json, SENML_CBOR: senml.decode_cbor}


class UnsupportedFormatError(Exception):
    """A Content-Format that this resource does not take: answer 4.15."""


class BodyReader:
    """Reads the bodies of one resource whose captures are known."""

    def __init__(self, options: ResourceOptions, captures: Mapping[str, str], context: AdapterContext) -> None:
        self._context = context
        payload = options.effective_payload()
        self._decode: Callable[[bytes], list[Field]] = build_decoder(payload).bind(captures)
        self._name = Namer(NameTemplate(payload.name), captures)
        self._accepted = _ACCEPTED[payload.format]
        self._assumed = _ASSUMED.get(options.assume)
        self._max_body = options.max_body
        self._sensors: tuple[str, ...] = ()

    def read(self, body: bytes, content_format: int | None) -> Batch | None:
        """The readings in ``body``; None when it is a valid pack without a single number.

        :raises PayloadError: the body cannot be understood. :raises UnsupportedFormatError: its format is not taken.
        """
        if len(body) > self._max_body:
            raise PayloadError("too_large", f"got a body of {len(body)} bytes, expected at most {self._max_body}")
        arrival_ns = self._context.clock.monotonic_ns()
        fields = self._fields(body, self._assumed if content_format is None else content_format)
        if not fields:
            return None
        sensors = tuple([field.name for field in fields])
        if sensors != self._sensors:  # the same layout keeps the same tuple object
            self._sensors = sensors
        return Batch(self._sensors, [field.value for field in fields], arrival_ns, _source_time(fields))

    def _fields(self, body: bytes, content_format: int | None) -> list[Field]:
        senml_decoder = _SENML.get(content_format) if content_format is not None else None
        if senml_decoder is not None:
            return self._senml(body, senml_decoder)
        if content_format is not None and content_format not in self._accepted:
            raise UnsupportedFormatError
        return self._decode(body)

    def _senml(self, body: bytes, decode: Callable[[bytes, int], senml.Pack]) -> list[Field]:
        pack = decode(body, self._context.clock.wall_ns())
        if pack.skipped:
            self._context.reject("senml_not_numeric", "SenML records without number or boolean left out", pack.skipped)
        return [field._replace(name=self._name((field.name,))) for field in pack.fields]


def _source_time(fields: list[Field]) -> int | list[int | None] | None:
    times = [field.time_ns for field in fields]
    return times[0] if times.count(times[0]) == len(times) else times
