"""The edge-agent command."""

from __future__ import annotations


def main() -> None:
    """Entry point of the installed command."""
    from edge_agent.cli.app import cli

    cli(prog_name="edge-agent")
