"""Modbus source: TCP, RTU on a serial line, and RTU frames over TCP. It reads and never writes."""

from __future__ import annotations

from edge_adapters.modbus.options import ModbusOptions
from edge_agent.contract import AdapterContext, Source, SourceAdapter


def _build(options: ModbusOptions, context: AdapterContext) -> Source:
    from edge_adapters.modbus.source import ModbusSource

    return ModbusSource(options, context)


SOURCE = SourceAdapter(
    name="modbus",
    summary="Polls registers and coils over Modbus TCP, RTU and RTU over TCP; reads only.",
    options=ModbusOptions,
    build=_build,
    extra="modbus",
)
