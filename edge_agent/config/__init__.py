"""The configuration: one YAML file, strict, with every mistake reported at once."""

from edge_agent.config.difference import Difference, diff_config
from edge_agent.config.layers import Overlay, overlay_path, read_overlay
from edge_agent.config.loader import load_config, load_in_use, parse_config
from edge_agent.config.schema import AgentConfig

__all__ = [
    "AgentConfig",
    "Difference",
    "Overlay",
    "diff_config",
    "load_config",
    "load_in_use",
    "overlay_path",
    "parse_config",
    "read_overlay",
]
