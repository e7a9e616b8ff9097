"""Binary payloads of fixed layout to fields."""

from __future__ import annotations

import struct

from edge_agent.errors import PayloadError
from edge_agent.payload.field import Field
from edge_agent.payload.names import Namer, Path
from edge_agent.payload.options import PayloadOptions
from edge_agent.payload.timestamps import time_parser


class RawReader:
    """Bytes to fields by a ``struct`` layout; the length must be exactly that of the layout."""

    def __init__(self, options: PayloadOptions) -> None:
        self._layout = struct.Struct(options.struct or "")
        positions = {name: at for at, name in enumerate(options.columns) if name}
        self._time = None if options.time is None else positions[options.time]
        self._parse_time = time_parser(options.time_format, options.time_zone)
        wanted: dict[Path, int] = {(name,): positions[column] for name, column in options.fields.items()}
        if options.value is not None:
            wanted[()] = positions[options.value]
        if not wanted:
            wanted = {(name,): at for name, at in positions.items() if at != self._time}
        self._values = tuple(wanted.items())

    def __call__(self, payload: bytes, namer: Namer) -> list[Field]:
        if len(payload) != self._layout.size:
            raise PayloadError(
                "size", f"raw: got {len(payload)} bytes, expected {self._layout.size} for {self._layout.format!r}"
            )
        record = self._layout.unpack(payload)
        time_ns = None if self._time is None else self._parse_time(record[self._time])
        return [Field(namer(name), float(record[at]), time_ns) for name, at in self._values]
