"""``edge-agent demo``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_agent.demo.attacks import ATTACKS
from edge_agent.demo.tags import STAGES
from edge_agent.demo.wiring import Address
from edge_agent.errors import ConfigError


def _list_attacks(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    if ctx.params.get("as_json"):
        entries = [
            {
                "name": attack.name,
                "description": attack.description,
                "stage": attack.stage,
                "affected": attack.affected,
                "duration_s": attack.duration_s,
                "magnitude": attack.magnitude,
                "magnitude_means": attack.magnitude_means,
            }
            for attack in ATTACKS.values()
        ]
        click.echo(json.dumps(entries, indent=2))
    else:
        width = max(map(len, ATTACKS))
        for attack in ATTACKS.values():
            click.echo(f"{attack.name:<{width}}  stage {attack.stage} ({STAGES[attack.stage]}): {attack.description}")
    ctx.exit()


def _plan(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> Any:
    from edge_agent.demo.scenario import Planned

    try:
        return tuple(Planned.parse(text) for text in texts)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _broker(ctx: click.Context, param: click.Parameter, text: str | None) -> Address | None:
    try:
        return None if text is None else Address.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command(name="demo")
@click.option(
    "--attack",
    "plan",
    multiple=True,
    callback=_plan,
    metavar="NAME[@SECONDS]",
    help="Attack to make, at this second or when it is its turn; may be given several times. "
    "Default: one after the other.",
)
@click.option("--seconds", type=click.IntRange(1), help="Stop after so many seconds of the live plant.")
@click.option("--speed", type=click.FloatRange(0.1, 20.0), default=1.0, show_default=True, help="Times real time.")
@click.option("--broker", callback=_broker, metavar="HOST:PORT", help="Use this MQTT broker, not an embedded one.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same plant.")
@click.option(
    "--warmup",
    "warmup_s",
    type=click.IntRange(0, 86_400),
    default=7200,
    show_default=True,
    help="Seconds of simulated normal history to learn from before going live.",
)
@click.option(
    "--port", type=click.IntRange(1, 65_535), help="Port of the local page and API. Default: 8470 or a free one."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the configuration and what the agent keeps. Default: a new temporary one.",
)
@click.option("--plain", is_flag=True, help="Lines instead of a live picture; so it is when output is no terminal.")
@click.option("--json", "as_json", is_flag=True, is_eager=True, help="One JSON object a line.")
@click.option(
    "--list-attacks", is_flag=True, is_eager=True, expose_value=False, callback=_list_attacks, help="List and exit."
)
@click.pass_context
def command(ctx: click.Context, /, plan: Any, plain: bool, as_json: bool, **options: Any) -> None:
    """Watch a simulated water treatment line being attacked.

    A plant of 51 sensors and actuators runs in a process of its own and is read over real MQTT, CoAP and Modbus
    sockets by the same daemon that `edge-agent run` starts. Attacks and faults are made one after the other; each
    incident is told and explained. The configuration it runs with is written to a folder for you to look at.

    \b
    edge-agent demo                                  attacks one after the other, until Ctrl-C
    edge-agent demo --attack replay@20 --seconds 90  one attack, then stop
    edge-agent demo --list-attacks                   what there is
    """
    from edge_agent.demo.app import DemoOptions, run_demo
    from edge_agent.demo.speaker import JsonSpeaker, LiveSpeaker, PlainSpeaker, Speaker

    speaker: Speaker
    if as_json:
        speaker = JsonSpeaker()
    elif plain or not sys.stdout.isatty():
        speaker = PlainSpeaker()
    else:
        speaker = LiveSpeaker()
    demo = DemoOptions(
        plan=plan,
        seconds=options["seconds"],
        speed=options["speed"],
        broker=options["broker"],
        seed=options["seed"],
        warmup_s=options["warmup_s"],
        api_port=options["port"],
        folder=options["data_dir"],
    )
    ctx.exit(_run(run_demo(demo, speaker)))


def _run(demo: Any) -> int:
    """Run the coroutine; of several failures at once the first of ours is told."""
    import uvloop

    from edge_agent.errors import EdgeAgentError

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return int(runner.run(demo))
    except* EdgeAgentError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        failure = error
    raise failure
