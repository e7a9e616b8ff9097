"""The measuring points of the simulated water treatment line, and the graph of who acts on whom.

::

    raw water ─MV101→ T101 ─P101/P102→ dosing ─MV201→ T301 ─P301/P302→ ultrafiltration ─MV301→ T401
        T401 ─P401/P402→ UV, bisulphite ─P501→ reverse osmosis ─┬→ permeate tank T601 ─P601→ consumers
                                                                └─MV601→ T602 (or drain);  T602 ─P602→ backwash

The first digit of a tag is its stage. Letters follow ISA-5.1: L level, F flow, P pressure, DP pressure difference,
T temperature, A analysis; IT means indicating transmitter. MV is a motor valve, P a pump.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A sensor measures; an actuator reports the state it was driven to."""

    SENSOR = "sensor"
    ACTUATOR = "actuator"


class Protocol(StrEnum):
    """How a tag reaches the gateway: PLC registers, small devices that are asked or that push, or a message bus."""

    MODBUS = "modbus"
    COAP_OBSERVE = "coap_observe"
    COAP_POST = "coap_post"
    MQTT = "mqtt"


@dataclass(frozen=True, slots=True)
class Tag:
    """One measuring point. ``low`` and ``high`` bound what the instrument can show, in ``unit``.

    ``noise`` is the standard deviation of the instrument, ``resolution`` the smallest step it shows, ``damping_s``
    the time constant by which it follows; an actuator that is only on or off has unit ``""`` and shows 0 or 1.
    """

    name: str
    unit: str
    description: str
    stage: int
    kind: Kind
    low: float
    high: float
    protocol: Protocol
    noise: float
    resolution: float
    damping_s: float = 0.0

    @property
    def switch(self) -> bool:
        """True for a pump or valve that is only on or off."""
        return self.kind is Kind.ACTUATOR and self.unit == ""


STAGES: dict[int, str] = {
    1: "Raw water",
    2: "Chemical dosing",
    3: "Ultrafiltration",
    4: "Dechlorination",
    5: "Reverse osmosis",
    6: "Permeate and backwash",
}

_PROTOCOL = {
    1: Protocol.MQTT,
    2: Protocol.MQTT,
    3: Protocol.MODBUS,
    4: Protocol.COAP_OBSERVE,
    5: Protocol.MODBUS,
    6: Protocol.MQTT,
}


_DAMPING_S = {"F": 2.0, "P": 2.0, "DP": 2.0, "A": 3.0}
"""Transmitters are damped so that pumps and valves do not make them jump; levels and temperatures need none."""


def _sensor(name: str, unit: str, low: float, high: float, noise: float, resolution: float, description: str) -> Tag:
    stage = _stage(name)
    # The water analysers of stage 2 are small devices of their own that push their readings to the gateway.
    protocol = Protocol.COAP_POST if name.startswith("AIT2") else _PROTOCOL[stage]
    damping_s = next((value for prefix, value in _DAMPING_S.items() if name.startswith(prefix)), 0.0)
    return Tag(name, unit, description, stage, Kind.SENSOR, low, high, protocol, noise, resolution, damping_s)


def _switch(name: str, description: str) -> Tag:
    stage = _stage(name)
    return Tag(name, "", description, stage, Kind.ACTUATOR, 0.0, 1.0, _PROTOCOL[stage], 0.0, 1.0)


def _drive(name: str, description: str) -> Tag:
    stage = _stage(name)
    return Tag(name, "%", description, stage, Kind.ACTUATOR, 0.0, 100.0, _PROTOCOL[stage], 0.0, 0.1)


def _stage(name: str) -> int:
    return int(name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")[0])


TAGS: tuple[Tag, ...] = (
    # Stage 1: raw water
    _switch("MV101", "Raw water inlet valve"),
    _sensor("FIT101", "m3/h", 0, 8, 0.03, 0.01, "Raw water flow into T101"),
    _sensor("LIT101", "mm", 0, 1200, 1.5, 0.5, "Level of raw water tank T101"),
    _switch("P101", "Transfer pump A"),
    _switch("P102", "Transfer pump B"),
    _sensor("PIT101", "kPa", 0, 400, 1.0, 0.5, "Discharge pressure of the transfer pumps"),
    _sensor("TIT101", "degC", 0, 45, 0.03, 0.01, "Raw water temperature"),
    # Stage 2: chemical dosing
    _sensor("FIT201", "m3/h", 0, 5, 0.015, 0.01, "Flow through dosing into T301"),
    _switch("MV201", "Valve from dosing to T301"),
    _drive("P201", "Acid dosing pump"),
    _drive("P202", "Hypochlorite dosing pump"),
    _drive("P203", "Coagulant dosing pump"),
    _sensor("AIT201", "uS/cm", 0, 1000, 0.8, 0.1, "Conductivity after dosing"),
    _sensor("AIT202", "pH", 0, 14, 0.008, 0.001, "pH after dosing"),
    _sensor("AIT203", "mV", 0, 1000, 1.5, 0.1, "Redox potential after dosing"),
    _sensor("AIT204", "NTU", 0, 40, 0.05, 0.01, "Turbidity before filtration"),
    # Stage 3: ultrafiltration
    _sensor("LIT301", "mm", 0, 1200, 1.5, 0.5, "Level of ultrafiltration feed tank T301"),
    _switch("P301", "Ultrafiltration feed pump A"),
    _switch("P302", "Ultrafiltration feed pump B"),
    _sensor("FIT301", "m3/h", 0, 5, 0.015, 0.01, "Ultrafiltration flow"),
    _sensor("PIT301", "kPa", 0, 400, 1.0, 0.1, "Ultrafiltration feed pressure"),
    _sensor("DPIT301", "kPa", -150, 250, 0.5, 0.1, "Transmembrane pressure; negative during backwash"),
    _switch("MV301", "Filtrate valve to T401"),
    _switch("MV302", "Backwash drain valve"),
    _switch("MV303", "Backwash inlet valve"),
    _sensor("AIT301", "NTU", 0, 5, 0.003, 0.001, "Filtrate turbidity"),
    # Stage 4: dechlorination
    _sensor("LIT401", "mm", 0, 1200, 1.5, 0.5, "Level of reverse osmosis feed tank T401"),
    _switch("P401", "Reverse osmosis feed pump A"),
    _switch("P402", "Reverse osmosis feed pump B"),
    _drive("P403", "Bisulphite dosing pump"),
    _sensor("FIT401", "m3/h", 0, 5, 0.015, 0.01, "Flow out of T401"),
    _switch("UV401", "Ultraviolet lamp"),
    _sensor("AIT401", "W/m2", 0, 250, 0.6, 0.1, "Ultraviolet irradiance"),
    _sensor("AIT402", "mV", 0, 1000, 1.5, 0.1, "Redox potential after dechlorination"),
    # Stage 5: reverse osmosis
    _drive("P501", "High-pressure pump"),
    _drive("MV501", "Reject valve"),
    _sensor("PIT501", "kPa", 0, 2500, 4.0, 1.0, "Membrane feed pressure"),
    _sensor("PIT502", "kPa", 0, 400, 0.6, 0.1, "Permeate pressure"),
    _sensor("PIT503", "kPa", 0, 2500, 4.0, 1.0, "Reject pressure"),
    _sensor("FIT501", "m3/h", 0, 5, 0.015, 0.01, "Membrane feed flow"),
    _sensor("FIT502", "m3/h", 0, 3, 0.01, 0.01, "Permeate flow"),
    _sensor("FIT503", "m3/h", 0, 4, 0.01, 0.01, "Reject flow"),
    _sensor("AIT501", "uS/cm", 0, 200, 0.08, 0.01, "Permeate conductivity"),
    _sensor("AIT502", "uS/cm", 0, 1000, 0.8, 0.1, "Feed conductivity"),
    # Stage 6: permeate and backwash
    _sensor("LIT601", "mm", 0, 1200, 1.5, 0.5, "Level of permeate tank T601"),
    _drive("P601", "Distribution pump"),
    _sensor("FIT601", "m3/h", 0, 3, 0.01, 0.01, "Flow to the consumers"),
    _sensor("LIT602", "mm", 0, 1200, 1.5, 0.5, "Level of backwash tank T602"),
    _switch("P602", "Backwash pump"),
    _sensor("FIT602", "m3/h", 0, 8, 0.02, 0.01, "Backwash flow"),
    _switch("MV601", "Valve from reject to T602"),
)

NAMES: tuple[str, ...] = tuple(tag.name for tag in TAGS)
INDEX: dict[str, int] = {name: index for index, name in enumerate(NAMES)}
BY_NAME: dict[str, Tag] = {tag.name: tag for tag in TAGS}


def _edges(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for line in text.split("\n"):
        source, _, targets = line.partition(":")
        pairs += [(source.strip(), target) for target in targets.split()]
    return tuple(pairs)


EDGES: tuple[tuple[str, str], ...] = _edges(
    """MV101: FIT101
    FIT101: LIT101
    LIT101: MV101 PIT101
    P101: PIT101 FIT201
    P102: PIT101 FIT201
    PIT101: FIT201
    TIT101: DPIT301 FIT502
    MV201: FIT201 PIT101
    FIT201: LIT101 LIT301 P201 P202 P203
    P201: AIT202 AIT201
    P202: AIT203 AIT201
    P203: AIT201
    AIT202: P201
    AIT203: P202
    AIT204: P203 DPIT301 AIT301
    LIT301: P101 P102 MV201
    P301: FIT301 PIT301
    P302: FIT301 PIT301
    PIT301: FIT301
    FIT301: DPIT301 LIT301 LIT401
    DPIT301: PIT301
    MV301: FIT301
    MV302: FIT602
    MV303: FIT602
    AIT301: AIT401
    LIT401: P301 P302
    P401: FIT401 PIT501
    P402: FIT401 PIT501
    FIT401: LIT401 FIT501 P403 UV401
    UV401: AIT401 AIT402
    P403: AIT402 AIT502
    AIT402: P403
    AIT201: AIT502
    P501: PIT501 FIT502
    MV501: FIT503 PIT503
    PIT501: PIT503 FIT501 FIT502
    PIT503: FIT503
    FIT501: FIT502 FIT503 PIT503
    FIT502: PIT502 LIT601 AIT501 P501
    FIT503: LIT602
    AIT502: AIT501
    LIT601: P401 P402 P501
    P601: FIT601
    FIT601: LIT601 P601
    LIT602: MV601
    P602: FIT602
    FIT602: LIT602 DPIT301
    MV601: LIT602"""
)
"""The true process graph: (cause, effect), through the water and through the controllers."""
