"""``edge-agent schema``"""

from __future__ import annotations

import click

from edge_agent.cli.output import print_json


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, with the adapters that are installed here.

    \b
    Editors complete and check with it; put this in the first line of the file:
      # yaml-language-server: $schema=agent.schema.json
    """
    from edge_agent.config.json_schema import json_schema

    print_json(json_schema())
