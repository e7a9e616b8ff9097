"""``edge-agent init``"""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.errors import ConfigError


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="agent.yaml")
@click.option("--source", "sources", multiple=True, help="Adapter to put in as a source (repeatable). Default: mqtt.")
@click.option("--sink", "sinks", multiple=True, help="Adapter to put in as a sink (repeatable). Default: file.")
@click.option("--uplink", "uplinks", multiple=True, help="Adapter to put in as an uplink (repeatable). Default: none.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def init(file: Path, sources: tuple[str, ...], sinks: tuple[str, ...], uplinks: tuple[str, ...], force: bool) -> None:
    """Write a commented sample configuration to FILE (default: agent.yaml; `-` is standard output).

    Every option is in it with its description; what is commented out shows the default.
    """
    from edge_agent.config.sample import sample_config, sample_files

    sources, sinks = sources or ("mqtt",), sinks or ("file",)
    text = sample_config(sources, sinks, uplinks)
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    beside = sample_files(sources, sinks, uplinks)
    files = {file: text} | {file.parent / name: content for name, content in beside.items()}
    taken = [str(path) for path in files if path.exists()]
    if taken and not force:
        raise ConfigError(f"{', '.join(taken)} exists already; choose another name, or overwrite it with --force")
    for path, content in files.items():
        try:
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    click.echo(f"Wrote {', '.join(map(str, files))}.")
    click.echo(f"Next: put in your devices, then `edge-agent check {file} --connect`.")
