"""The edge-agent command."""

from __future__ import annotations

import os


def main() -> None:
    """Entry point of the installed command."""
    # One thread for numpy's linear algebra, set before it is imported: the edge learner's products are too small to
    # share, and on a busy machine waiting for the other threads takes 30 times as long as the product.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from edge_agent.cli.app import cli

    cli(prog_name="edge-agent")
