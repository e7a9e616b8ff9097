"""The plant as a process of its own: ``python -m edge_agent.demo.serve``.

It steps in real time, serves every tag on its protocol, and takes commands, one a line, on standard input::

    attack NAME [SECONDS [MAGNITUDE]]     stop [NAME]     list     go     quit

Every answer and every event is one JSON object a line on standard output. The end of standard input ends the process,
so that a plant never outlives whoever started it (``--forever`` changes that). With ``--hold`` it stands still until
``go``: whoever has simulated its past from the same seed can then follow it without a gap.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from edge_agent.demo.attacks import ATTACKS, Injection
from edge_agent.demo.effects import Vector
from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import SETTLE_S
from edge_agent.demo.serve_coap import CoapDevices
from edge_agent.demo.serve_modbus import ModbusPlcs
from edge_agent.demo.serve_mqtt import EmbeddedBroker, Publisher
from edge_agent.demo.wiring import Address, Wiring
from edge_agent.errors import ConfigError

Tell = Callable[[dict[str, Any]], None]


class Control:
    """Carries out command lines on a plant and reports attacks that begin and end."""

    def __init__(self, plant: Plant, tell: Tell, held: bool = False) -> None:
        self._plant = plant
        self._tell = tell
        self.held = held
        self._acting: dict[str, Injection] = {}
        self.stopped = asyncio.Event()

    def obey(self, line: str) -> None:
        """Carry out one line; a line that cannot be carried out is answered with ``{"error": …}``."""
        words = line.split()
        if not words:
            return
        try:
            self._obey(words[0], words[1:])
        except (ConfigError, ValueError) as error:
            self._tell({"error": str(error)})

    def notice(self) -> None:
        """Tell which attacks have begun or ended; to be called after every step."""
        now = {one.attack.name: one for one in self._plant.active if one.start_s < self._plant.seconds}
        for name, injection in now.items():
            if self._acting.get(name) is not injection:
                self._tell({"event": "attack_started", **described(injection)})
        for name, injection in self._acting.items():
            if now.get(name) is not injection:
                self._tell({"event": "attack_ended", **described(injection)})
        self._acting = now

    def _obey(self, verb: str, rest: list[str]) -> None:
        if verb == "attack" and 1 <= len(rest) <= 3:
            numbers = [_positive(text) for text in rest[1:]]
            self._plant.start(rest[0], *numbers)
        elif verb == "stop" and len(rest) <= 1:
            self._plant.stop(rest[0] if rest else None)
        elif verb == "list" and not rest:
            self._tell({"attacks": {attack.name: attack.description for attack in ATTACKS.values()}})
        elif verb == "go" and not rest:
            self.held = False
        elif verb == "quit" and not rest:
            self.stopped.set()
        else:
            raise ValueError(
                f"got {' '.join([verb, *rest])!r}, expected attack NAME [SECONDS], stop [NAME], list, go, quit"
            )


def described(injection: Injection) -> dict[str, Any]:
    """An injection as plain values."""
    return {
        "attack": injection.attack.name,
        "description": injection.attack.description,
        "affected": injection.attack.affected,
        "duration_s": injection.duration_s,
        "magnitude": injection.magnitude,
    }


def _positive(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError(f"got {text!r}, expected a number from 0")
    return value


class Devices:
    """Everything of the plant that listens or sends."""

    def __init__(self, agent: Address, broker: Address | None) -> None:
        self._agent = agent
        self._given_broker = broker
        self._modbus = ModbusPlcs()
        self._coap = CoapDevices(agent)
        self._publisher: Publisher | None = None
        self._closing = AsyncExitStack()

    async def start(self, host: str, ports: tuple[int, int, int], values: Vector) -> Wiring:
        """Open the sockets (``ports`` of Modbus, CoAP and MQTT; 0 for any free one), showing ``values`` at once."""
        self._modbus.update(values)
        self._coap.show(values)
        modbus = await self._modbus.start(host, ports[0])
        self._closing.push_async_callback(self._modbus.stop)
        coap = await self._coap.start(host, ports[1])
        self._closing.push_async_callback(self._coap.stop)
        mqtt = self._given_broker
        if mqtt is None:
            broker = EmbeddedBroker()
            mqtt = await broker.start(host, ports[2])
            self._closing.push_async_callback(broker.stop)
        self._publisher = Publisher(mqtt)
        self._publisher.start()
        publisher = self._publisher
        self._closing.push_async_callback(asyncio.to_thread, publisher.stop)
        return Wiring(modbus, coap, mqtt, self._agent)

    def update(self, values: Vector, time_ns: int) -> None:
        """Show and send one tick."""
        self._modbus.update(values)
        self._coap.update(values, time_ns)
        if self._publisher is not None:
            self._publisher.update(values, time_ns)

    async def stop(self) -> None:
        """Close everything, last opened first."""
        await self._closing.aclose()


PHASE = 0.3
"""Steps lie this part of a period after whole periods of wall time, where the agent's ticks lie: what belongs to one
step then reaches the agent well within one tick, also over protocols that poll."""


async def serve(plant: Plant, devices: Devices, control: Control, period_s: float) -> None:
    """Step the plant every ``period_s`` until told to stop. Steps missed by a busy machine are not made up for."""
    while not control.stopped.is_set():
        try:
            async with asyncio.timeout(seconds_to_step(time.time(), period_s)):
                await control.stopped.wait()
        except TimeoutError:
            if control.held:
                continue
            devices.update(plant.step(), time.time_ns())
            control.notice()


def seconds_to_step(wall_s: float, period_s: float) -> float:
    """Time until the next step; a timer that woke a little early does not step twice."""
    wait_s = (PHASE - wall_s / period_s) % 1.0 * period_s
    return wait_s if wait_s > 0.25 * period_s else wait_s + period_s


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _read_commands(loop: asyncio.AbstractEventLoop, control: Control, forever: bool) -> None:
    """Runs in a thread, since standard input may be anything: a pipe, a terminal, a file, /dev/null."""
    buffered = b""
    while chunk := os.read(sys.stdin.fileno(), 4096):
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in lines:
            loop.call_soon_threadsafe(control.obey, line.decode(errors="replace"))
    if not forever:
        loop.call_soon_threadsafe(control.stopped.set)


def _settled(seed: int, tick_s: float, settle_s: float) -> Plant:
    plant = Plant(np.random.default_rng(seed), tick_s)
    for _ in range(round(settle_s / tick_s)):
        plant.step()
    return plant


async def _main(options: dict[str, Any]) -> None:
    plant = _settled(options["seed"], options["tick"], options["settle"])
    control = Control(plant, _tell, held=options["hold"])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, control.stopped.set)
    devices = Devices(options["agent"], options["broker"])
    try:
        wiring = await devices.start(options["host"], options["ports"], plant.step())
        if options["ports_file"] is not None:
            _write_whole(options["ports_file"], orjson.dumps(asdict(wiring)))
        _tell({"event": "ready", **asdict(wiring)})
        reader = threading.Thread(target=_read_commands, args=(loop, control, options["forever"]), daemon=True)
        reader.start()
        await serve(plant, devices, control, options["tick"] / options["speed"])
    finally:
        await devices.stop()


def _write_whole(path: Path, content: bytes) -> None:
    """Whoever waits for the file never sees half of it."""
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    draft.replace(path)


class _AddressType(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs only
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        try:
            return value if isinstance(value, Address) else Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


ADDRESS = _AddressType()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--modbus-port", default=0, type=click.IntRange(0, 65535), help="Default: any free one.")
@click.option("--coap-port", default=0, type=click.IntRange(0, 65535), help="Default: any free one.")
@click.option("--mqtt-port", default=0, type=click.IntRange(0, 65535), help="Port of the embedded broker.")
@click.option("--broker", type=ADDRESS, help="Publish to this broker instead of an embedded one.")
@click.option("--agent", type=ADDRESS, default="127.0.0.1:5683", show_default=True, help="CoAP server to post to.")
@click.option("--ports-file", type=click.Path(path_type=Path), help="Write the addresses here as JSON when ready.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same plant.")
@click.option("--tick", default=1.0, type=click.FloatRange(0.01, 60.0), show_default=True, help="Seconds a step.")
@click.option("--speed", default=1.0, type=click.FloatRange(0.1, 100.0), show_default=True, help="Times real time.")
@click.option("--settle", default=SETTLE_S, type=click.FloatRange(0.0), help="Plant seconds run before it is served.")
@click.option("--hold", is_flag=True, help="Stand still until the command `go`.")
@click.option("--forever", is_flag=True, help="Go on when standard input ends.")
def main(**options: Any) -> None:
    """Serve the simulated water treatment line over Modbus TCP, CoAP and MQTT."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    options["ports"] = (options["modbus_port"], options["coap_port"], options["mqtt_port"])
    try:
        asyncio.run(_main(options))
    except OSError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
