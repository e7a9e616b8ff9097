"""Which attack comes when."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edge_agent.demo.attacks import ATTACKS, Attack, attack_named
from edge_agent.demo.board import Board
from edge_agent.errors import ConfigError

Say = Callable[[str], None]

FIRST_AFTER_S = 15
_HOLD_S = 20
_PAUSE_S = 20
_CALM_WITHIN_S = 240

_SHOWN_FIRST = (
    "spoofed-level",
    "sensor-swap",
    "multi-stage",
    "dropout",
    "dosing-manipulation",
    "valve-stuck",
    "noise-burst",
)


@dataclass(frozen=True, slots=True)
class Planned:
    """An attack and when it starts, in seconds after going live; None: when it is its turn."""

    attack: Attack
    at_s: int | None

    @classmethod
    def parse(cls, text: str) -> Planned:
        """From ``NAME`` or ``NAME@SECONDS``. :raises ConfigError: saying what was expected."""
        name, at, seconds = text.partition("@")
        if at and not seconds.isdecimal():
            raise ConfigError(f"attack: got {text!r}, expected NAME or NAME@SECONDS such as replay@30")
        return cls(attack_named(name), int(seconds) if at else None)


def default_plan() -> tuple[Planned, ...]:
    """Every attack, those first that show best."""
    names = [*_SHOWN_FIRST, *(name for name in ATTACKS if name not in _SHOWN_FIRST)]
    return tuple(Planned(ATTACKS[name], None) for name in names)


async def play(plan: Sequence[Planned], board: Board, say: Say, for_ever: bool) -> None:
    """Start each attack at its time; those without one, one after the other, again and again if ``for_ever``."""
    async with asyncio.TaskGroup() as group:
        for planned in plan:
            if planned.at_s is not None:
                group.create_task(_at(planned.at_s, planned.attack, board, say), name=f"attack {planned.attack.name}")
        turns = [planned.attack for planned in plan if planned.at_s is None]
        if turns:
            await _in_turn(itertools.cycle(turns) if for_ever else iter(turns), board, say)


async def _at(at_s: int, attack: Attack, board: Board, say: Say) -> None:
    await board.pass_ticks(max(1, at_s - board.ticks))
    say(f"attack {attack.name}")


async def _in_turn(attacks: Iterator[Attack], board: Board, say: Say) -> None:
    await board.pass_ticks(FIRST_AFTER_S)
    for attack in attacks:
        say(f"attack {attack.name}")
        await _until_it_had_its_time(attack, board)
        say(f"stop {attack.name}")
        await _until_calm(board)
        await board.pass_ticks(_PAUSE_S)


async def _until_it_had_its_time(attack: Attack, board: Board) -> None:
    """Until it was found and has acted for a while longer, or is over by itself."""
    for _ in range(round(attack.duration_s)):
        await board.next_tick()
        running = board.attack
        if running and running.found_tick is not None and board.ticks - running.found_tick >= _HOLD_S:
            return


async def _until_calm(board: Board) -> None:
    for _ in range(_CALM_WITHIN_S):
        await board.next_tick()
        if not board.open:
            return
