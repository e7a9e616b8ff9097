"""Contradictions of updates over the air: the sections ``ota`` and ``uplinks``."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.config.document import Path
from edge_agent.config.schema import AgentConfig
from edge_agent.ota.options import gateway_name


def wrong_updates(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    """Option path and message of each contradiction."""
    if config.ota.repository is None:
        for name in config.uplinks:
            yield (
                ("uplinks", name),
                "has nothing to say: `ota.repository` is missing, and without it there are no updates",
            )
        return
    try:
        gateway_name(config.ota, config.agent.name)
    except ValueError as error:
        yield ("ota", "gateway"), str(error)
    yield from _twins(config)


def _twins(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    """Two with the same options would be one client to their far side, and throw each other out."""
    seen: list[str] = []
    for name, options in config.uplinks.items():
        first = next((other for other in seen if config.uplinks[other] == options), None)
        if first is not None:
            yield ("uplinks", name), f"is the same as uplinks.{first}: one gateway would be there twice; keep one"
        seen.append(name)
