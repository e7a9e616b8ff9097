"""``edge-agent doctor``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.output import json_option, print_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), help="Also look at what this file needs."
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, config_path: Path | None, as_json: bool) -> None:
    """Look for what would trouble the agent on this machine, and say what to do about it.

    \b
    Every line is `ok`, `warn` (works, but …) or `fail`. Exit codes: 0 no `fail`, 1 otherwise.
    """
    from edge_agent.cli.diagnosis import diagnose

    findings = diagnose(config_path)
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            level = click.style(f"{finding.level:4}", fg=_COLOURS[finding.level], bold=True)
            click.echo(f"{level}  {finding.what.ljust(width)}  {finding.found}")
            if finding.advice:
                click.echo(f"      {' ' * width}  -> {finding.advice}")
    if any(finding.level == "fail" for finding in findings):
        ctx.exit(int(ExitCode.FAILED))
