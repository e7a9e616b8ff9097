"""How commands speak: a table or JSON on standard output, sentences on standard error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edge_agent.errors import DataFileError

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=str),
    default="/etc/edge-agent/agent.yaml",
    show_default=True,
    envvar="EDGE_AGENT_CONFIG",
    help="Configuration file.",
)
TABLES = (".csv", ".parquet")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """``text`` with whatever a terminal obeys, but for line ends and tabs, written out: ``\\x1b`` for an escape."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def check_table(path: Path) -> None:
    """:raises DataFileError: tables are not written under such a name."""
    if path.suffix.lower() not in TABLES:
        raise DataFileError(f"{path}: got {path.suffix!r}, expected a .csv or .parquet file")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their longest value; the last one may be as long as it likes."""
    for index, line in enumerate(table_lines(headings, rows)):
        click.echo(click.style(line, bold=True) if index == 0 else line)


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """What :func:`print_table` prints; cells with texts of others stay one line and move no cursor."""
    texts = [[harmless(" ".join(str(cell).splitlines())) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    for row in texts:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
