"""Writes the agent's configuration for the running plant: complete, commented, and meant to be copied from."""

from __future__ import annotations

from pathlib import Path

from edge_agent.demo.tags import EDGES, STAGES, TAGS, Kind, Tag
from edge_agent.demo.wiring import MODBUS_POINTS, NO_READING, OBSERVED, TOPIC_ROOT, ModbusPoint, Table, Wiring
from edge_agent.options import format_duration

_HEAD = """\
# Configuration of edge-agent for the simulated water treatment line. `edge-agent demo` wrote it and runs with it;
# it is written anew at every start.
# While the demo runs, `edge-agent status --url http://{api}` tells what the agent is doing.
# To watch a plant of your own, copy this file, put your addresses in, and run `edge-agent run -c FILE`.

agent:
  name: demo-gateway
  # Everything the agent keeps: undelivered events, what it has learned, the model in use.
  data_dir: {data_dir}

api:
  # Health, metrics for Prometheus, incidents, and a page for the browser.
  listen: {api}

# All sensors are looked at once a tick.
tick:
  period: {period}

intake:
  # Without a reading for this long a sensor counts as missing. That is a finding about the data, not about the plant.
  stale_after: {stale}

sources:
  # Stages 1, 2 and 6 publish one JSON message for each tag:
  #   {topic_root}/raw-water/LIT101   {{"value": 612.5, "unit": "mm", "time": "2026-11-20T10:42:07.125Z"}}
  bus:
    type: mqtt
    host: {mqtt.host}
    port: {mqtt.port}
    subscriptions:
      - topic: {topic_root}/{{area}}/{{sensor}}
        name: "{{sensor}}"
        qos: 0
        payload: {{format: json, value: $.value, time: $.time}}

  # CoAP in both directions: the analysers of stage 2 post SenML packs to us, the devices of stage 4 are observed.
  devices:
    type: coap
    server:
      listen: {agent}
      resources:
        - {{path: "/s/{{device}}", name: "{{path}}"}}
    client:
{observed}

  # Two PLCs behind one Modbus TCP port, asked often enough that a reading is never older than its tick.
  plcs:
    type: modbus
    host: {modbus.host}
    port: {modbus.port}
    interval: {poll}
    devices:
      # Stage 3 is an old one: coils and scaled 16-bit registers.
      - unit: 3
        registers:
{old_plc}
      # Stage 5 is a newer one: IEEE 754 floats in input registers.
      - unit: 5
        registers:
{new_plc}

# Units for people, and the limits of each instrument: a reading outside of them is a fault of the data.
# Pumps and valves switch whenever a controller says so. They are watched because they explain the others
# (`monitor: false`); switching alone is no incident.
sensors:
{sensors}

graph:
  # Who acts on whom: [cause, effect]. Edges that nobody declares are learned.
  edges:
{edges}

decision:
  # The budget, from which thresholds follow. A plant would rather say `1 per week`; who watches a demonstration can
  # bear more, and sees fainter attacks found.
  false_alarms: 1 per hour
  detect_within: {detect}
  # Shorter than usual, so that the demonstration goes on.
  close_after: {close}
  quality_after: {quality}

sinks:
  # Every incident as one line of JSON, and to the plant's own broker.
  log:
    type: file
    path: {events}
  bus:
    type: mqtt
    host: {mqtt.host}
    port: {mqtt.port}
    topic: edge-agent/{{kind}}
"""


def demo_config(wiring: Wiring, folder: Path, api_port: int, period_s: float) -> str:
    """The text of the configuration. ``period_s`` is the real time between two steps of the plant."""

    def ticks(count: float) -> str:
        return format_duration(round(count * period_s, 3))

    return _HEAD.format(
        topic_root=TOPIC_ROOT,
        data_dir=_quoted(folder / "data"),
        events=_quoted(folder / "incidents.jsonl"),
        api=f"127.0.0.1:{api_port}",
        mqtt=wiring.mqtt,
        modbus=wiring.modbus,
        agent=wiring.agent,
        period=ticks(1),
        poll=ticks(0.2),
        # Not less than it takes to say hello to every device, however fast the plant runs.
        stale=format_duration(max(5.0, round(10 * period_s, 3))),
        detect=ticks(30),
        close=ticks(20),
        quality=ticks(5),
        observed="\n".join(_observed(tag, wiring) for tag in OBSERVED),
        old_plc="\n".join(_registers(3)),
        new_plc="\n".join(_registers(5)),
        sensors="\n".join(_sensors()),
        edges="\n".join(f"    - [{cause}, {effect}]" for cause, effect in EDGES),
    )


def _observed(tag: Tag, wiring: Wiring) -> str:
    return f'      - {{uri: "coap://{wiring.coap}/{tag.name}", name: "{{resource}}", payload: {{format: number}}}}'


def _registers(unit: int) -> list[str]:
    return [_register(point) for point in MODBUS_POINTS if point.unit == unit]


def _register(point: ModbusPoint) -> str:
    entry = {"name": point.tag.name, "table": point.table, "address": str(point.address)}
    if point.table is Table.HOLDING:
        entry |= {"type": "int16", "scale": f"{point.scale:g}", "not_available": f"{NO_READING & 0xFFFF:#06x}"}
    elif point.table is Table.INPUT:
        entry["type"] = "float32"
    return "          - {" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}"


def _sensors() -> list[str]:
    lines = []
    for stage, title in STAGES.items():
        lines.append(f"  # Stage {stage}: {title}")
        for tag in TAGS:
            if tag.stage == stage:
                unit = f'unit: "{tag.unit}", ' if tag.unit else ""
                monitor = ", monitor: false" if tag.kind is Kind.ACTUATOR else ""
                entry = f"  {tag.name}: {{{unit}min: {tag.low:g}, max: {tag.high:g}{monitor}}}"
                lines.append(f"{entry:<56}# {tag.description}")
    return lines


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
