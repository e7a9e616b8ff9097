"""The configuration: one YAML file, strict, with every mistake reported at once."""

from edge_agent.config.difference import Difference, diff_config
from edge_agent.config.loader import load_config, parse_config
from edge_agent.config.schema import AgentConfig

__all__ = ["AgentConfig", "Difference", "diff_config", "load_config", "parse_config"]
