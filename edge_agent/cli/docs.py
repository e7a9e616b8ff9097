"""``python -m edge_agent.cli.docs [--check]``: renders what the docs take from the code (``make docs``).

The reference pages below ``docs/reference``, and in each adapter's README its ``sample.yaml`` below the line
``<!-- sample.yaml -->``.
With ``--check`` nothing is written: exit code 1 says that a file is out of date, and which.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.reference_pages import our_adapters, pages
from edge_agent.config.schema import ADAPTER_SECTIONS
from edge_agent.errors import DataFileError

_SAMPLE = re.compile(r"(<!-- [^>]*sample\.yaml -->\n)```yaml\n.*?\n```\n", re.DOTALL)


def rendered(root: Path) -> dict[Path, str]:
    """Text of every file that is generated, or holds something generated. :raises DataFileError: markers missing."""
    found = {root / "docs" / "reference" / name: text for name, text in pages().items()}
    for folder in _adapter_folders():
        readme = folder / "README.md"
        found[readme] = _with_sample(readme, (folder / "sample.yaml").read_text(encoding="utf-8"))
    return found


def _adapter_folders() -> list[Path]:
    packages = {
        adapter.options.__module__.rpartition(".")[0]
        for group in ADAPTER_SECTIONS.values()
        for adapter in our_adapters(group)
    }
    return [Path(str(resources.files(package))) for package in sorted(packages)]


def _with_sample(readme: Path, sample: str) -> str:
    text, count = _SAMPLE.subn(lambda match: f"{match[1]}```yaml\n{sample.rstrip()}\n```\n", readme.read_text())
    if count != 1:
        raise DataFileError(
            f"{readme}: expected one line `<!-- sample.yaml -->` with a yaml block below it, got {count}"
        )
    return text


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when something is out of date.")
@click.pass_context
def main(ctx: click.Context, check: bool) -> None:
    """Render the generated parts of the docs."""
    try:
        files = rendered(Path.cwd())
    except DataFileError as error:
        raise click.ClickException(str(error)) from error
    stale = {path: text for path, text in files.items() if not path.is_file() or path.read_text() != text}
    for path, text in stale.items():
        click.echo(f"{path}: {'out of date; run `make docs`' if check else 'written'}", err=check)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale and check:
        ctx.exit(int(ExitCode.FAILED))


if __name__ == "__main__":
    main()
