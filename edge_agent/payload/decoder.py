"""From options to a decoder: everything that can be prepared is prepared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.errors import PayloadError
from edge_agent.payload.csv_form import CsvReader
from edge_agent.payload.field import Field
from edge_agent.payload.json_form import Reader, json_reader
from edge_agent.payload.names import Namer, NameTemplate
from edge_agent.payload.numbers import not_a_number, number_from_text
from edge_agent.payload.options import PayloadFormat, PayloadOptions
from edge_agent.payload.raw_form import RawReader


class Decoder:
    """Payload bytes to fields. ``placeholders``: what ``captures`` must hold for the names to be complete."""

    def __init__(self, options: PayloadOptions) -> None:
        self._template = NameTemplate(options.name)
        self._read = _READERS[options.format](options)
        self._max_bytes = options.max_bytes
        self.placeholders = self._template.placeholders - options.labels.keys()

    def decode(self, payload: bytes, captures: Mapping[str, str]) -> list[Field]:
        """At least one field. :raises PayloadError: for anything else, whatever the bytes are."""
        return self._decode(payload, Namer(self._template, captures))

    def bind(self, captures: Mapping[str, str]) -> Callable[[bytes], list[Field]]:
        """:meth:`decode` for fixed captures: names are rendered once and given back as the same objects."""
        namer = Namer(self._template, dict(captures))
        read, max_bytes = self._read, self._max_bytes

        def decode(payload: bytes) -> list[Field]:
            if len(payload) > max_bytes:
                raise _too_large(payload, max_bytes)
            return read(payload, namer)

        return decode

    def _decode(self, payload: bytes, namer: Namer) -> list[Field]:
        if len(payload) > self._max_bytes:
            raise _too_large(payload, self._max_bytes)
        return self._read(payload, namer)


def build_decoder(options: PayloadOptions) -> Decoder:
    """The decoder that ``options`` describe; options that were read without error always give one."""
    return Decoder(options)


def _too_large(payload: bytes, max_bytes: int) -> PayloadError:
    return PayloadError("too_large", f"payload: got {len(payload)} bytes, expected at most {max_bytes} (`max_bytes`)")


def _number_reader(options: PayloadOptions) -> Reader:
    values = options.values

    def read(payload: bytes, namer: Namer) -> list[Field]:
        try:
            text = payload.decode()
        except UnicodeDecodeError as error:
            raise PayloadError("malformed", f"number: not UTF-8 text: {payload[:40]!r}") from error
        number = number_from_text(text, values)
        if number is None:
            raise not_a_number("number", text[:80])
        return [Field(namer(()), number)]

    return read


def _auto_reader(options: PayloadOptions) -> Reader:
    read_json, read_number = json_reader(options), _number_reader(options)

    def read(payload: bytes, namer: Namer) -> list[Field]:
        start = payload[:1] if payload[:1] in _JSON_STARTS else payload.lstrip()[:1]
        if start in _JSON_STARTS or payload.strip() in _JSON_WORDS:
            return read_json(payload, namer)
        return read_number(payload, namer)

    return read


_JSON_STARTS = (b"{", b"[", b'"')
_JSON_WORDS = (b"true", b"false", b"null")

_READERS: dict[PayloadFormat, Callable[[PayloadOptions], Reader]] = {
    PayloadFormat.AUTO: _auto_reader,
    PayloadFormat.NUMBER: _number_reader,
    PayloadFormat.JSON: json_reader,
    PayloadFormat.CSV: CsvReader,
    PayloadFormat.RAW: RawReader,
}
