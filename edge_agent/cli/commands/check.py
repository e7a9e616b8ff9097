"""``edge-agent check``"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.output import json_option, print_json
from edge_agent.counted import counted
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig

_NOT_TRIED = "usable here; it meets its far side at the first event, which `edge-agent sinks test` sends"


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path), default="/etc/edge-agent/agent.yaml", envvar="EDGE_AGENT_CONFIG"
)
@click.option("--connect", is_flag=True, help="Also reach every source, sink and uplink, and the repository.")
@click.option("--timeout", type=click.FloatRange(0.1, 300), default=5.0, show_default=True, help="Seconds for each.")
@click.option(
    "--overlay",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A configuration for over the air, laid over FILE instead of the one in force there.",
)
@click.option("--effective", is_flag=True, help="Print every option in use with where it is from; no secrets.")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    file: Path,
    connect: bool,
    timeout: float,
    overlay: Path | None,
    effective: bool,
    as_json: bool,
) -> None:
    """Check the configuration FILE and report every mistake in it, as `file:line: option: got X, expected Y`.

    What came over the air is laid over it, as the agent does at its start; --overlay tries another one.

    \b
    Exit codes: 0 nothing is wrong, 2 mistakes in the file, 1 (with --connect) something could not be reached.

    --connect introduces itself to brokers under another client name, so the running daemon is not disturbed. What
    only one program can have at a time (a serial line, the port of a CoAP server) is found taken while it runs.
    """
    try:
        config = _loaded(file, overlay)
    except ConfigError as error:
        _report(as_json, list(error.problems), [], [])
        ctx.exit(int(ExitCode.USAGE))
    notes = [*_overlay_notes(config), *_notes(config)]
    reached = asyncio.run(_reach_all(config, timeout)) if connect else []
    options = _effective(config) if effective else None
    _report(as_json, [], notes, reached, options)
    missed = [item["component"] for item in reached if item["problem"]]
    if not as_json and not effective:
        click.echo(f"{file}: {_outcome(config, missed)}")
    if missed:
        ctx.exit(int(ExitCode.FAILED))


def _loaded(file: Path, overlay: Path | None) -> AgentConfig:
    from edge_agent.config import load_config, load_in_use, read_overlay

    if overlay is None:
        return load_in_use(file)
    return load_config(file, overlay=read_overlay(overlay, str(overlay)))


def _effective(config: AgentConfig) -> list[dict[str, str | None]]:
    from edge_agent.config.effective import effective

    return [{"option": one.option, "value": one.value, "origin": one.origin} for one in effective(config)]


def _overlay_notes(config: AgentConfig) -> list[str]:
    """What came over the air and is not in use, or keeps something of the file from being so."""
    from edge_agent.config.overlay import overruled_options

    left_out = config.layers.left_out
    if left_out is not None:
        return [f"{left_out}; the agent would leave it out"]
    overruled = overruled_options(config.layers)
    label = config.layers.overlay.label if config.layers.overlay is not None else ""
    return [f"{label}: sets otherwise what this file says of {', '.join(overruled)}"] if overruled else []


def _outcome(config: AgentConfig, missed: Sequence[str]) -> str:
    parts = f"{counted(len(config.sources), 'source')}, {counted(len(config.sinks), 'sink')}"
    return f"no mistakes, {parts}; not reached: {', '.join(missed)}" if missed else f"ok, {parts}"


def _notes(config: AgentConfig) -> list[str]:
    """What is allowed but probably not meant."""
    from edge_agent.config.rule_checks import doubtful_rules
    from edge_agent.config.schema import ADAPTER_SECTIONS
    from edge_agent.registry import DISTRIBUTION, adapter, missing_packages

    notes = list(doubtful_rules(config))
    notes += _unusable_bundle(config)
    notes += _unusable_root(config)
    if not config.sinks:
        notes.append("sinks: there are none; incidents will only show in `edge-agent status` and the local API")
    for section, group in ADAPTER_SECTIONS.items():
        for name, option in getattr(config, section).items():
            extra = adapter(group, option.type).extra
            missing = missing_packages(extra) if extra else ()
            if missing:
                notes.append(
                    f"{section}.{name}: {', '.join(missing)} is not installed here: "
                    f"pip install '{DISTRIBUTION}[{extra}]'"
                )
    wanted = {"telemetry": ("otlp", config.telemetry.endpoint), "ota": ("ota", config.ota.repository)}
    for section, (extra, address) in wanted.items():
        missing = missing_packages(extra) if address is not None else ()
        if missing:
            notes.append(
                f"{section}: {', '.join(missing)} is not installed here: pip install '{DISTRIBUTION}[{extra}]'"
            )
    return notes


def _unusable_bundle(config: AgentConfig) -> list[str]:
    from edge_agent.bundle import read_bundle
    from edge_agent.errors import BundleError

    path = config.model.path()
    try:
        if path is not None:
            read_bundle(path)
    except BundleError as error:
        return [f"model.bundle: {error}; the agent would run with the universal model"]
    return []


def _unusable_root(config: AgentConfig) -> list[str]:
    from edge_agent.cli.repository import read_root
    from edge_agent.errors import OtaError

    try:
        if config.ota.root is not None:
            read_root(config.ota.root)
    except OtaError as error:
        return [f"ota.root: {error}; the agent would run without updates"]
    return []


async def _reach_all(config: AgentConfig, timeout_s: float) -> list[dict[str, Any]]:
    from edge_agent.cli.reach import reach_sink, reach_source, reach_uplink, visiting
    from edge_agent.cli.repository import reach_repository
    from edge_agent.ota.options import gateway_name

    found: list[dict[str, Any]] = []
    for name, source in config.sources.items():
        found.append(
            {"component": f"sources.{name}", "problem": await reach_source(name, source, timeout_s), "tried": True}
        )
    for name, sink in config.sinks.items():
        context = visiting(name, kind="sink")
        problem = await reach_sink(sink, context, timeout_s)
        tried = problem is not None or context.state == "connected"
        found.append({"component": f"sinks.{name}", "problem": problem, "tried": tried})
    if config.ota.repository is not None:
        missed = await reach_repository(config.ota, timeout_s)
        found.append({"component": "ota.repository", "problem": missed, "tried": True})
        identity = (config.ota.fleet, config.ota.ring, gateway_name(config.ota, config.agent.name))
        for name, uplink in config.uplinks.items():
            missed = await reach_uplink(name, uplink, identity, timeout_s)
            found.append({"component": f"uplinks.{name}", "problem": missed, "tried": True})
    return found


def _report(
    as_json: bool,
    problems: list[str],
    notes: list[str],
    reached: list[dict[str, Any]],
    options: list[dict[str, str | None]] | None = None,
) -> None:
    if as_json:
        good = not problems and not any(item["problem"] for item in reached)
        told = {"ok": good, "problems": problems, "notes": notes, "reached": reached}
        print_json(told if options is None else {**told, "effective": options})
        return
    for option in options or ():
        said = (
            f"{option['option']}: {option['value']}" if option["value"] is not None else f"# {option['option']}: gone"
        )
        click.echo(f"{said}  # {option['origin']}")
    for problem in problems:
        click.echo(problem, err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    for item in reached:
        said = item["problem"] or ("reached" if item["tried"] else _NOT_TRIED)
        click.echo(f"{item['component']}: {said}", err=bool(item["problem"]))
