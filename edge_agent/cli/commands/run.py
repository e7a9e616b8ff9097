"""``edge-agent run``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.cli.output import config_option


@click.command()
@config_option
@click.pass_context
def run(ctx: click.Context, config_path: str) -> None:
    """Run the daemon until it is told to stop.

    SIGTERM or Ctrl-C: sources stop first, what was accepted is still scored and delivered; a second one cuts that
    short. SIGHUP: the configuration is read again; only what changed restarts. Exit code 1 means that something
    could not be stopped or delivered in time, or that a component with `start: fail` failed.
    """
    from edge_agent.cli.logs import configure_logging
    from edge_agent.config import load_config
    from edge_agent.config.agent import LogLevel
    from edge_agent.daemon import run_daemon

    path = Path(config_path)
    log = load_config(path).agent.log
    configure_logging(LogLevel.DEBUG if ctx.obj else log.level, log.format)
    ctx.exit(run_daemon(path))
