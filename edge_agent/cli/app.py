"""The root of all commands. Nothing heavy is imported until a command runs, so that ``--help`` is instant."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from typing import Any

import click

from edge_agent.cli.exit_codes import ExitCode, exit_code
from edge_agent.errors import ConfigError, EdgeAgentError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("edge_agent.cli.commands.run:run", "Run the daemon."),
    "demo": ("edge_agent.demo.command:command", "Simulated plant over real sockets, with attacks on request."),
    "init": ("edge_agent.cli.commands.init:init", "Write a commented sample configuration."),
    "check": ("edge_agent.cli.commands.check:check", "Check a configuration file; report every mistake."),
    "doctor": ("edge_agent.cli.commands.doctor:doctor", "Look for what would trouble the agent on this machine."),
    "detect": ("edge_agent.cli.commands.detect:detect", "Score a recording (CSV or Parquet)."),
    "adapters": ("edge_agent.cli.commands.adapters:adapters", "Installed adapters and their options."),
    "record": ("edge_agent.cli.commands.recording:record", "Write what the sources read to a recording."),
    "replay": ("edge_agent.cli.commands.recording:replay", "Send a recording through the pipeline again."),
    "status": ("edge_agent.cli.commands.control:status", "What the running daemon is doing."),
    "reload": ("edge_agent.cli.commands.control:reload", "Make the running daemon read its configuration again."),
    "model": ("edge_agent.cli.commands.control:model", "Show, exchange or roll back the model of the running daemon."),
    "incidents": (
        "edge_agent.cli.commands.incidents:incidents",
        "Incidents of the running daemon: look, acknowledge, suppress, judge.",
    ),
    "history": ("edge_agent.cli.commands.history:history", "Take incidents, scores or readings out of the history."),
    "sinks": ("edge_agent.cli.commands.sinks:sinks", "Where incidents go; send a test incident to one sink."),
    "rules": ("edge_agent.cli.commands.rules:rules", "List rules of your own, and try them on recorded readings."),
    "ota": ("edge_agent.cli.commands.ota:ota", "Updates over the air: on this gateway, and how they are published."),
    "schema": ("edge_agent.cli.commands.schema:schema", "Print the JSON Schema of the configuration file."),
    "completion": ("edge_agent.cli.commands.completion:completion", "Print a shell completion script."),
}
"""Our own commands: where each lives and its one-line help, so that listing them imports none."""

EXTRA_HELP = {
    "modbus": "Modbus tools: probe a device's registers.",
    "train": "Train a site model from a plant's own history.",
    "evaluate": "Measure a model on labelled recordings.",
    "data": "Check a history before a model is trained on it.",
}
"""One-line help of commands that come by entry point with our own distribution."""


NEEDED_EXTRAS = {"demo": "demo", "train": "train"}
"""Commands that cannot do anything without an extra, so that it is said before they begin."""
QUESTIONS = {"--help", "-h", "--list-attacks"}
"""Except for what can be answered without."""


class OneSentenceError(click.ClickException):
    """An expected failure: one clear sentence on standard error, no traceback."""

    def __init__(self, error: EdgeAgentError) -> None:
        super().__init__(str(error))
        # click declares it for the class, and reads it from the instance
        self.exit_code = int(exit_code(error))  # type: ignore[misc]


class LazyGroup(click.Group):
    """Loads a command when it is called; commands of other packages are found by entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(set(_announced()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            return _load(cmd_name)
        except EdgeAgentError as error:
            raise OneSentenceError(error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _short_help(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            from edge_agent.nearest import nearest

            hint = nearest(args[0], self.list_commands(ctx)).removeprefix("; ")
            raise click.UsageError(f"{error.message.rstrip('.')}. {hint[:1].upper()}{hint[1:]}".strip(), ctx) from error
        if not QUESTIONS & set(rest):
            _check_extra(name or "")
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeAgentError as error:
            raise OneSentenceError(error) from error
        except ModuleNotFoundError as error:
            raise _missing(ctx.invoked_subcommand or "", error) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(int(ExitCode.INTERRUPTED))


def _load(name: str) -> click.Command | None:
    if name in COMMANDS:
        module, _, attribute = COMMANDS[name][0].partition(":")
        command = getattr(_imported(name, module), attribute)
    elif name in _announced():
        from edge_agent.registry import Group, load_object

        command = load_object(Group.COMMANDS, name)
    else:
        return None
    if not isinstance(command, click.Command):
        raise ConfigError(f"command {name!r} is a {type(command).__name__}, expected a click.Command")
    return command


def _imported(name: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(name, error) from error


def _check_extra(command: str) -> None:
    from edge_agent.registry import DISTRIBUTION, missing_packages

    extra = NEEDED_EXTRAS.get(command)
    missing = missing_packages(extra) if extra is not None else ()
    if missing:
        install = f"pip install '{DISTRIBUTION}[{extra}]'"
        raise OneSentenceError(
            ConfigError(f"`edge-agent {command}` needs {', '.join(missing)}, not installed here: {install}")
        )


def _missing(command: str, error: ModuleNotFoundError) -> Exception:
    """One sentence with what to install; ``error`` itself when it is no library of an extra, but a fault of ours."""
    from edge_agent.registry import extra_with, missing_library

    extra = extra_with(error.name or "")
    if extra is None:
        return error
    return OneSentenceError(ConfigError(missing_library(f"`edge-agent {command}`", extra, error)))


def _announced() -> dict[str, str]:
    """Commands by entry point and the distribution that ships each."""
    return {
        entry.name: entry.dist.name if entry.dist else ""
        for entry in metadata.entry_points(group="edge_agent.commands")
    }


def _short_help(name: str) -> str:
    if name in COMMANDS:
        return COMMANDS[name][1]
    return EXTRA_HELP.get(name, f"Added by {_announced()[name]}.")


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from edge_agent import __version__

        click.echo(f"edge-agent {__version__}, Python {sys.version.split()[0]}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-v", "--verbose", count=True, help="Log more: -v what is done, -vv everything.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it.")
@click.pass_context
def cli(ctx: click.Context, verbose: int) -> None:
    """Anomaly detection for IoT gateways.

    Reads sensors over MQTT, CoAP, Modbus and more, scores them as a graph, and reports few, explained incidents.

    \b
    First steps:
      edge-agent demo                        watch a simulated plant being attacked
      edge-agent init agent.yaml             write a commented configuration
      edge-agent check agent.yaml --connect  find every mistake in it, and reach the devices
      edge-agent run -c agent.yaml           run the daemon

    Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 3 daemon not running, 4 daemon refused.
    """
    from edge_agent.cli.logs import configure_for_command

    ctx.obj = verbose
    configure_for_command(verbose)
