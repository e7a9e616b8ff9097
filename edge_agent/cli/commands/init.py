"""``edge-agent init``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.errors import ConfigError


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="agent.yaml")
@click.option("--source", "sources", multiple=True, help="Adapter to put in as a source (repeatable). Default: mqtt.")
@click.option("--sink", "sinks", multiple=True, help="Adapter to put in as a sink (repeatable). Default: file.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def init(file: Path, sources: tuple[str, ...], sinks: tuple[str, ...], force: bool) -> None:
    """Write a commented sample configuration to FILE (default: agent.yaml; `-` is standard output).

    Every option is in it with its description; what is commented out shows the default.
    """
    from edge_agent.config.sample import sample_config

    text = sample_config(sources or ("mqtt",), sinks or ("file",))
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{file} exists already; choose another name, or overwrite it with --force") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    click.echo(f"Wrote {file}. Next: put in your devices, then `edge-agent check {file} --connect`.")
