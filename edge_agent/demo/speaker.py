"""How happenings reach the terminal: plain lines, JSON lines, or lines above a live picture."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol

import orjson
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from edge_agent.demo.story import Happening, Tone
from edge_agent.demo.view import Scene, render

_STYLES = {
    Tone.NOTE: "",
    Tone.ATTACK: "bold red",
    Tone.CALM: "green",
    Tone.INCIDENT: "bold yellow",
    Tone.TROUBLE: "bold magenta",
}


class Speaker(Protocol):
    """Tells what happens, and draws the present if it can."""

    def tell(self, happening: Happening) -> None:
        """One happening, as it happens."""
        ...

    def draw(self, scene: Scene) -> None:
        """The present; called once a tick."""
        ...

    def __enter__(self) -> Speaker: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class PlainSpeaker:
    """One line a happening, indented lines of explanation, and a line about the present now and then."""

    def __init__(self, write: Callable[[str], object] = sys.stdout.write, status_every: int = 30) -> None:
        self._write = write
        self._status_every = status_every

    def tell(self, happening: Happening) -> None:
        self._line(happening.head)
        for line in happening.more:
            self._write(f"            {line}\n")
        sys.stdout.flush()

    def draw(self, scene: Scene) -> None:
        if scene.tick % self._status_every == 0:
            p = scene.p_values[-1] if scene.p_values else None
            surprise = "p –" if p is None else f"p {p:.2g}"
            self._line(f"{scene.state}: tick {scene.tick} in {scene.latency_ms:.2f} ms, {surprise}, {scene.tally}")
            sys.stdout.flush()

    def __enter__(self) -> PlainSpeaker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _line(self, text: str) -> None:
        self._write(f"{_time()}  {text}\n")


class JsonSpeaker:
    """One JSON object a happening: ``{"time", "event", …}``."""

    def __init__(self, write: Callable[[str], object] = sys.stdout.write) -> None:
        self._write = write

    def tell(self, happening: Happening) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "event": happening.event, "message": happening.head, **happening.body}
        self._write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()

    def draw(self, scene: Scene) -> None:
        """Nothing: machines read the metrics."""

    def __enter__(self) -> JsonSpeaker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LiveSpeaker:
    """A live picture at the bottom of the terminal; what happened scrolls away above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def tell(self, happening: Happening) -> None:
        self._print(Text(f"{_time()}  {happening.head}", style=_STYLES[happening.tone]))
        for line in happening.more:
            self._print(Text(f"          {line}", style="dim"))

    def draw(self, scene: Scene) -> None:
        self._live.update(render(scene), refresh=True)

    def __enter__(self) -> LiveSpeaker:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _print(self, what: RenderableType) -> None:
        self._console.print(what)


def _time() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
