"""``edge-agent ota repo auto``: reports in, decisions told and carried out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from edge_agent.cli.fleet import fetch_reports
from edge_agent.cli.output import print_table
from edge_agent.cli.publishing import tell_gateways
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.options import parse_duration
from edge_agent.ota.publisher import Repository
from edge_agent.ota.publisher.auto import Step, act, look
from edge_agent.ota.publisher.rollout import Decision
from edge_agent.ota.report import MAX_REPORT_BYTES

_UPLINKS, _ONE = "uplinks", "uplink:"
_SHORTEST_S = 1.0


def look_once(repository: Repository, sources: Sequence[str], as_json: bool, dry_run: bool) -> None:
    """Read the reports and do what they ask for, what stops a release first.

    :raises EdgeAgentError: one of both cannot be done; of what is to be done, all that can be is.
    """
    steps, bad = look(repository, _reports(repository, sources))
    if bad:
        click.secho(f"warning: {bad} of the reports cannot be read and were left out", err=True, fg="yellow")
    if as_json:
        click.echo(json.dumps([step.to_dict() for step in steps], ensure_ascii=False))
    else:
        print_table(
            ("RING", "RELEASE", "DECISION", "COMMITTED", "FAILED", "SILENT", "WHY"), [_row(one) for one in steps]
        )
    if dry_run:
        return
    failures = []
    for step in sorted(steps, key=lambda step: step.verdict.decision is not Decision.HALT):
        try:
            _do(repository, step)
        except EdgeAgentError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _do(repository: Repository, step: Step) -> None:
    change = act(repository, step)
    if change is not None:
        tell_gateways(repository, change)
        for role, count in change.missing.items():
            click.secho(
                f"warning: {change.action} waits for {count} more signature(s) of {role}", err=True, fg="yellow"
            )


def keep_looking(repository: Repository, sources: Sequence[str], as_json: bool, dry_run: bool, every: str) -> None:
    """:func:`look_once` again and again, until Ctrl-C. What fails is told and tried again.

    :raises ConfigError: ``every`` is no duration, or shorter than a second.
    """
    try:
        pause_s = parse_duration(every)
    except ValueError as error:
        raise ConfigError(f"every: {error}") from error
    if pause_s < _SHORTEST_S:
        raise ConfigError(f"every: got {every!r}, expected at least {_SHORTEST_S:g}s")
    while True:
        try:
            look_once(repository, sources, as_json, dry_run)
        except EdgeAgentError as error:
            click.secho(f"Error: {error}; trying again in {pause_s:g} s", err=True, fg="red")
        time.sleep(pause_s)


def _row(step: Step) -> tuple[object, ...]:
    tally, verdict = step.verdict.tally, step.verdict
    decision = f"{verdict.decision.value} to {step.to}" if step.to else verdict.decision.value
    committed = f"{len(tally.commits)} of {tally.gateways}"
    return step.ring, step.release, decision, committed, tally.failures, tally.silent, verdict.why


def _reports(repository: Repository, sources: Sequence[str]) -> Iterator[bytes]:
    for source in sources:
        if source == _UPLINKS or source.startswith(_ONE):
            yield from fetch_reports(repository, source.removeprefix(_ONE) if source.startswith(_ONE) else None)
        else:
            yield from _from_files(Path(source))


def _from_files(path: Path) -> Iterator[bytes]:
    """Lines of the file, or of all .json and .jsonl files in the folder; no line is read further than is allowed."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl")) if path.is_dir() else [path]
    for file in files:
        try:
            with file.open("rb") as stream:
                while line := stream.readline(MAX_REPORT_BYTES + 2):
                    if line.strip():
                        yield line.strip()
        except OSError as error:
            raise ConfigError(f"{file}: reports cannot be read: {error.strerror}") from error
