"""What a reload has to restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.config.schema import ADAPTER_SECTIONS, SECTION_NAMES, AgentConfig


@dataclass(frozen=True, slots=True)
class NamesDifference:
    """Names of components that came, went, or have other options now."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Difference:
    """``sections``: names of the other sections that differ, in the order of the file's reference."""

    sources: NamesDifference
    sinks: NamesDifference
    uplinks: NamesDifference
    sections: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.sources or self.sinks or self.uplinks or self.sections)


def diff_config(old: AgentConfig, new: AgentConfig) -> Difference:
    """What differs from ``old`` to ``new``; the path of the file does not count."""
    return Difference(
        sources=diff_names(old.sources, new.sources),
        sinks=diff_names(old.sinks, new.sinks),
        uplinks=diff_names(old.uplinks, new.uplinks),
        sections=tuple(
            name for name in SECTION_NAMES if name not in ADAPTER_SECTIONS and getattr(old, name) != getattr(new, name)
        ),
    )


def diff_names(old: Mapping[str, Any], new: Mapping[str, Any]) -> NamesDifference:
    """What differs from ``old`` to ``new``: options of components, by their names."""
    return NamesDifference(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
    )
