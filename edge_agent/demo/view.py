"""The live picture: a pure function from a :class:`Scene` of plain values to something that rich can draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_WIDE = 118


@dataclass(frozen=True, slots=True)
class Reading:
    """One tag: its value as text, and how unusual it is: 0 normal, 1 unusual, 2 very, None: missing."""

    name: str
    text: str
    heat: int | None


@dataclass(frozen=True, slots=True)
class StageScene:
    """The tags of one stage and the protocols that carry them."""

    title: str
    protocols: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the picture shows. ``p_values``: the last ones, oldest first, None while warming up."""

    state: str
    model: str
    tick: int
    latency_ms: float
    score: float | None
    p_values: tuple[float | None, ...]
    stages: tuple[StageScene, ...]
    attack: str | None
    incidents: tuple[tuple[bool, str], ...]
    tally: str
    footer: str


def render(scene: Scene) -> RenderableType:
    """The picture. Below 118 columns each stage gets one line with its worst tags instead of a column."""
    return Panel(
        Group(_header(scene), Text(), _Stages(scene.stages), Text(), _attack(scene), *_incidents(scene)),
        title="[bold]edge-agent demo[/] · simulated water treatment line",
        subtitle=Text(scene.footer, style="dim"),
        border_style="red" if any(is_open for is_open, _ in scene.incidents) else "green",
    )


def sparkline(p_values: Sequence[float | None], width: int = 40) -> str:
    """Surprise (-log10 p) over time: flat is normal, a full block is p ≤ 1e-6."""
    bars = []
    for p in list(p_values)[-width:]:
        if p is None or math.isnan(p):
            bars.append("·")
        else:
            surprise = min(6.0, -math.log10(max(p, 1e-12)))
            bars.append(_BARS[min(len(_BARS) - 1, int(surprise / 6.0 * len(_BARS)))])
    return "".join(bars)


def _header(scene: Scene) -> RenderableType:
    last = scene.p_values[-1] if scene.p_values else None
    grid = Table.grid(expand=True)
    grid.add_column(ratio=3)
    grid.add_column(ratio=2, justify="right")
    facts = Text.assemble(
        (scene.state, "bold"),
        f"  tick {scene.tick} in {scene.latency_ms:.2f} ms  score ",
        ("–" if scene.score is None else f"{scene.score:.2f}", "bold"),
        "  p ",
        ("–" if last is None else f"{last:.2g}", "bold red" if last is not None and last < 1e-4 else "bold"),
    )
    grid.add_row(facts, Text(scene.model, style="dim"))
    grid.add_row(Text(f"surprise {sparkline(scene.p_values)}", style="cyan"), Text(scene.tally))
    return grid


class _Stages:
    def __init__(self, stages: tuple[StageScene, ...]) -> None:
        self._stages = stages

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._columns() if options.max_width >= _WIDE - 4 else self._rows()

    def _columns(self) -> Table:
        grid = Table.grid(expand=True, padding=(0, 1))
        for _ in self._stages:
            grid.add_column(ratio=1)
        grid.add_row(
            *(Text(stage.title, style="bold underline", overflow="ellipsis", no_wrap=True) for stage in self._stages)
        )
        grid.add_row(*(Text(stage.protocols, style="dim") for stage in self._stages))
        for row in range(max((len(stage.readings) for stage in self._stages), default=0)):
            grid.add_row(
                *(_reading(stage.readings[row]) if row < len(stage.readings) else "" for stage in self._stages)
            )
        return grid

    def _rows(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        for stage in self._stages:
            hot = sorted(stage.readings, key=lambda reading: -(3 if reading.heat is None else reading.heat))
            grid.add_row(Text(stage.title, style="bold"), *(_reading(reading) for reading in hot[:3]))
        return grid


def _reading(reading: Reading) -> Text:
    style = "magenta" if reading.heat is None else ("", "yellow", "bold red")[reading.heat]
    return Text(f"{reading.name:<8}{reading.text:>8}", style=style, no_wrap=True)


def _attack(scene: Scene) -> Text:
    if scene.attack is None:
        return Text("no attack is running", style="dim")
    return Text.assemble(("ATTACK ", "bold white on red"), (f" {scene.attack}", "red"))


def _incidents(scene: Scene) -> list[Text]:
    if not scene.incidents:
        return [Text("no incidents", style="dim")]
    lines = []
    for is_open, text in scene.incidents:
        style = "yellow" if is_open else "dim"
        lines.append(Text(f"{'●' if is_open else '○'} {text}", style=style, overflow="ellipsis", no_wrap=True))
    return lines
