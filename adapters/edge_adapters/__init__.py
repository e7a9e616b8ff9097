"""Adapters that come with the agent, one folder a protocol."""
