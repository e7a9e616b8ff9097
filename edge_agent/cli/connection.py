"""How commands find the running daemon: by its configuration, or by an address given."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient
    from edge_agent.options import Secret

TOKEN_FILE = "api-token"  # noqa: S105  # a file name
DEFAULT_CONFIG = Path("/etc/edge-agent/agent.yaml")


def talks_to_daemon(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--config`` and ``--url``, and passes a client as first argument."""

    @click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        envvar="EDGE_AGENT_CONFIG",
        help=f"Configuration of the daemon, for its address and token. Default: {DEFAULT_CONFIG}, if it is there.",
    )
    @click.option("--url", help="Where the daemon listens: http://127.0.0.1:8470 or unix:/path (instead of --config).")
    @wraps(command)
    def with_client(config_path: Path | None, url: str | None, **given: Any) -> Any:
        return command(client_of(config_path, url), **given)

    return with_client


def client_of(config_path: Path | None, url: str | None = None) -> ApiClient:
    """Who talks to the daemon of that configuration, or at ``url``. :raises ConfigError: neither can be used."""
    from edge_agent.api.address import parse_address
    from edge_agent.api.client import ApiClient
    from edge_agent.api.options import ApiOptions
    from edge_agent.config.agent import AgentOptions

    path = config_path or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    listen, data_dir, token = ApiOptions().listen, AgentOptions().data_dir, _token_from_environment()
    if path is not None and (url is None or config_path is not None):
        from edge_agent.config import load_config

        config = load_config(path, sources_required=False)
        listen, data_dir, token = config.api.listen, config.agent.data_dir, token or config.api.token
    try:
        where = parse_address(url.removeprefix("http://").rstrip("/") if url is not None else listen)
    except ValueError as error:
        raise ConfigError(f"--url: {error}") from error
    return ApiClient(where, token or _token_from_file(data_dir))


def _token_from_environment() -> Secret | None:
    from edge_agent.options import Secret

    text = os.environ.get("EDGE_AGENT_TOKEN")
    return Secret(text) if text else None


def _token_from_file(data_dir: Path) -> Secret | None:
    from edge_agent.api.token import read_token

    return read_token(data_dir / TOKEN_FILE)
