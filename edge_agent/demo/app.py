"""The demonstration: plant process, daemon, attacks and terminal, held together.

::

    plant process ── MQTT, CoAP, Modbus sockets ──▶ daemon (here) ──▶ tick reports ──▶ Board ──▶ Speaker
         ▲                                                                               │
         └────────────── attack, stop ◀── scenario ◀─────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import load_config
from edge_agent.daemon import Daemon, handle_signals
from edge_agent.demo import story
from edge_agent.demo.board import Board
from edge_agent.demo.config_file import demo_config
from edge_agent.demo.plant_client import PlantProcess
from edge_agent.demo.recording import SETTLE_S, generate
from edge_agent.demo.scenario import Planned, default_plan, play
from edge_agent.demo.scene_of import scene_of
from edge_agent.demo.speaker import Speaker
from edge_agent.demo.tags import NAMES, TAGS, Protocol
from edge_agent.demo.wiring import Address, Wiring
from edge_agent.errors import EdgeAgentError
from edge_agent.pipeline.engine import TickReport

_CONNECT_WITHIN_S = 15.0
_ASKED = tuple(tag.name for tag in TAGS if tag.protocol in (Protocol.COAP_OBSERVE, Protocol.MODBUS))
API_PORT = 8470


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user asked for. ``seconds``: stop after so many seconds of live plant; None: at Ctrl-C.

    ``warmup_s``: simulated normal history to learn from first. ``speed``: times real time. ``folder``: where the
    configuration and everything the agent keeps go; None: a new temporary one. ``api_port`` None: 8470 or a free one.
    """

    plan: tuple[Planned, ...] = ()
    seconds: int | None = None
    speed: float = 1.0
    broker: Address | None = None
    seed: int = 1
    warmup_s: int = 7200
    api_port: int | None = None
    folder: Path | None = None


async def run_demo(options: DemoOptions, speaker: Speaker) -> int:
    """Run until stopped; the exit code of the daemon, or 0 after ``seconds``.

    :raises EdgeAgentError: the plant or the daemon could not start.
    """
    folder = _folder(options)
    with _LogFile(folder / "agent.log"), speaker:
        # The agent's CoAP port is held until the plant has chosen its own, or both could be given the same one.
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        held.bind(("127.0.0.1", 0))
        agent = Address("127.0.0.1", int(held.getsockname()[1]))
        speaker.tell(story.note("starting", "starting the simulated plant in a process of its own"))
        async with contextlib.AsyncExitStack() as stack:
            with held:
                plant, wiring = await stack.enter_async_context(_plant(options, agent, folder))
            demo = _Demo(options, speaker, plant, wiring, folder)
            return await demo.run()


class _Demo:
    """The parts of one run."""

    def __init__(
        self, options: DemoOptions, speaker: Speaker, plant: PlantProcess, wiring: Wiring, folder: Path
    ) -> None:
        self._options = options
        self._speaker = speaker
        self._plant = plant
        self._board = Board()
        self._warm_ticks = 0
        api_port = options.api_port or _api_port()
        self._page = f"http://127.0.0.1:{api_port}"
        path = folder / "agent.yaml"
        path.write_text(demo_config(wiring, folder, api_port, 1.0 / options.speed), encoding="utf-8")
        self._daemon = Daemon(load_config(path), seed=options.seed)
        self._tell_of(wiring, path)

    async def run(self) -> int:
        await self._daemon.open()
        await self._warm_up()
        handle_signals(self._daemon)
        async with asyncio.TaskGroup() as group:
            # The plant's messages come first: the others wait for what they bring.
            parts = [
                group.create_task(self._listen(), name="demo: messages of the plant"),
                group.create_task(self._go_live(), name="demo: scenario"),
            ]
            code = await self._daemon.run()
            for part in parts:
                part.cancel()
        self._tell(story.note("stopped", f"stopped: {self._board.found} of {self._board.attacks} attacks found"))
        return code

    def _tell_of(self, wiring: Wiring, path: Path) -> None:
        text = (
            f"MQTT broker {wiring.mqtt}, Modbus TCP {wiring.modbus}, CoAP devices {wiring.coap}, agent {wiring.agent}"
        )
        self._tell(story.note("plant", f"51 tags are served: {text}"))
        self._tell(story.note("configured", f"configuration: {path}", path=str(path)))

    async def _warm_up(self) -> None:
        options, daemon = self._options, self._daemon
        began = time.monotonic()
        hours = options.warmup_s / 3600
        self._tell(story.note("warming_up", f"learning from {hours:g} h of simulated normal operation …"))
        # The same seed as in the plant process: what comes live continues where this ends.
        history = await asyncio.to_thread(generate, options.warmup_s, options.seed)
        await asyncio.to_thread(daemon.warm_up, history.values, NAMES, 1.0 / options.speed)
        self._warm_ticks = len(history.values)
        took_s = time.monotonic() - began
        self._tell(story.note("warm", f"learned in {took_s:.1f} s with {self._model()}", seconds=round(took_s, 2)))

    async def _go_live(self) -> None:
        await self._connected()
        self._plant.say("go")
        self._daemon.add_listener(self._on_tick)
        self._tell(story.note("live", f"live on real sockets; page: {self._page}", page=self._page))
        plan = self._options.plan or default_plan()
        await play(plan, self._board, self._plant.say, for_ever=not self._options.plan)

    async def _connected(self) -> None:
        """Until every source has reached its far side; goes on without one that takes too long, and says so."""
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                # The state of a source has no event to wait for.
                while missing := self._unconnected() + self._unheard():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = f"not connected within {_CONNECT_WITHIN_S:g} s: {', '.join(missing)}; going on without"
            self._speaker.tell(story.Happening(story.Tone.TROUBLE, "not_connected", text))

    def _unconnected(self) -> list[str]:
        names = self._daemon.config.sources
        runners = self._daemon.runners.sources
        return [name for name in names if name not in runners or runners[name].context.state != "connected"]

    def _unheard(self) -> list[str]:
        """Devices that are asked and have not answered yet; the others send only when the plant moves."""
        pipeline = self._daemon.pipeline
        report = pipeline.last_report if pipeline is not None else None
        live_ticks = 0 if report is None else report.tick + 1 - self._warm_ticks
        if report is None or live_ticks < 1:
            return list(_ASKED)
        index = {name: i for i, name in enumerate(report.snapshot.sensors)}
        return [name for name in _ASKED if name not in index or report.snapshot.age[index[name]] >= live_ticks]

    async def _listen(self) -> None:
        async for message in self._plant.messages():
            if message.get("event") == "attack_started":
                self._board.attack_started(message)
                self._tell(story.attack_started(message))
            elif message.get("event") == "attack_ended":
                self._tell(story.attack_ended(message, self._board.attack_ended()))
            elif "error" in message:
                self._speaker.tell(story.Happening(story.Tone.TROUBLE, "plant_error", str(message["error"])))
        raise EdgeAgentError(f"the simulated plant has ended unexpectedly; {self._plant.log} tells why")

    def _on_tick(self, report: TickReport) -> None:
        board = self._board
        board.observe(report)
        for incident in report.decision.changed:
            happening = story.incident_changed(incident, board)
            if happening is not None:
                self._tell(happening)
        scene = scene_of(board, self._model(), f"{self._page} · Ctrl-C stops")
        if scene is not None:
            self._speaker.draw(scene)
        if self._options.seconds is not None and board.ticks >= self._options.seconds:
            self._daemon.stop()

    def _model(self) -> str:
        model = self._daemon.model
        return "no model" if model is None else f"{model.detector.name} {model.detector.version}"

    def _tell(self, happening: story.Happening) -> None:
        self._speaker.tell(happening)


@asynccontextmanager
async def _plant(options: DemoOptions, agent: Address, folder: Path) -> AsyncIterator[tuple[PlantProcess, Wiring]]:
    arguments = [
        *("--agent", str(agent)),
        *("--seed", str(options.seed)),
        *("--speed", str(options.speed)),
        *("--settle", str(SETTLE_S + options.warmup_s)),
        "--hold",
    ]
    if options.broker is not None:
        arguments += ["--broker", str(options.broker)]
    plant = await PlantProcess.start(*arguments, log=folder / "plant.log")
    try:
        yield plant, await plant.ready()
    finally:
        await plant.stop()


def _folder(options: DemoOptions) -> Path:
    if options.folder is None:
        return Path(tempfile.mkdtemp(prefix="edge-agent-demo-"))
    folder = options.folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeAgentError(f"--data-dir: cannot make {folder}: {error.strerror}") from error
    return folder


class _LogFile:
    """Sends the log to a file while the terminal belongs to the picture."""

    def __init__(self, path: Path) -> None:
        self._handler = logging.FileHandler(path, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._before, self._level = root.handlers[:], root.level
        root.handlers[:] = [self._handler]
        root.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.handlers[:] = self._before
        root.setLevel(self._level)
        self._handler.close()


def _api_port() -> int:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", API_PORT))
        except OSError:
            sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
