"""``edge-agent ota serve``: a repository over HTTP, for a lab."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.errors import ConfigError


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8_480, show_default=True, help="0: any free one.")
def serve(folder: Path, host: str, port: int) -> None:
    """Serve the repository in FOLDER (the publisher's, or a stick) over HTTP. For a lab: no TLS, no limits.

    Only `metadata/` and `targets/` can be read, never keys. In production any web server or CDN does this.
    """
    from edge_agent.ota.publisher.serving import served_folder, server

    try:
        listening = server(served_folder(folder), host, port)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: cannot listen: {error.strerror}; take another --port or --host") from error
    with listening:
        click.echo(
            f"http://{host}:{listening.server_address[1]} serves {served_folder(folder)}; end it with Ctrl-C.", err=True
        )
        listening.serve_forever()
