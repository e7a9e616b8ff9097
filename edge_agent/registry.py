"""Finds adapters and extra commands by their entry points, without importing what is not asked for.

Groups: ``edge_agent.sources``, ``edge_agent.sinks``, ``edge_agent.uplinks``, ``edge_agent.commands``. Any installed
distribution may add to them. A broken entry point is an error of whoever asks for it by name and of nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from edge_agent.errors import AdapterError, ConfigError
from edge_agent.nearest import nearest

if TYPE_CHECKING:  # listing names must stay cheap: `edge-agent --help` does it
    from edge_agent.contract import (
        Adapter,
        AdapterContext,
        Sink,
        SinkAdapter,
        SinkOptions,
        Source,
        SourceAdapter,
        SourceOptions,
        Uplink,
        UplinkAdapter,
        UplinkOptions,
    )
    from edge_agent.options import Options

DISTRIBUTION = "edge-graph-agent"
A = TypeVar("A", bound="Adapter")


class Group(StrEnum):
    """Entry point groups that the agent looks into."""

    SOURCES = "edge_agent.sources"
    SINKS = "edge_agent.sinks"
    UPLINKS = "edge_agent.uplinks"
    COMMANDS = "edge_agent.commands"

    @property
    def section(self) -> str:
        """Where its members are configured: ``sources``."""
        return self.value.rpartition(".")[2]

    @property
    def noun(self) -> str:
        """What one member is called in messages: ``source``."""
        return self.section.removesuffix("s")


ADAPTER_GROUPS = (Group.SOURCES, Group.SINKS, Group.UPLINKS)
"""Groups whose members are adapters, each with a section of the configuration."""


class Announced(NamedTuple):
    """What members of a group are announced by, and what the options of all of them derive from."""

    by: type[Adapter]
    options: type[Options]


@dataclass(frozen=True, slots=True)
class Unloadable:
    """An entry point that could not be loaded: its name, who ships it, and why it failed."""

    name: str
    distribution: str
    problem: str


def announced(group: Group) -> Announced:
    """How adapters of ``group`` are announced (see :mod:`edge_agent.contract`)."""
    from edge_agent import contract

    return {
        Group.SOURCES: Announced(contract.SourceAdapter, contract.SourceOptions),
        Group.SINKS: Announced(contract.SinkAdapter, contract.SinkOptions),
        Group.UPLINKS: Announced(contract.UplinkAdapter, contract.UplinkOptions),
    }[group]


def group_of(adapter: Adapter) -> Group:
    """The group that ``adapter`` belongs into."""
    return next(group for group in ADAPTER_GROUPS if isinstance(adapter, announced(group).by))


def adapter(group: Group, name: str) -> Adapter:
    """The adapter of ``group`` called ``name``. :raises ConfigError: unknown (nearest name given) or broken."""
    return _adapter(group, name, announced(group).by)


def source_adapter(name: str) -> SourceAdapter:
    """The source adapter called ``name``. :raises ConfigError: unknown (nearest name given) or broken."""
    from edge_agent.contract import SourceAdapter

    return _adapter(Group.SOURCES, name, SourceAdapter)


def sink_adapter(name: str) -> SinkAdapter:
    """The sink adapter called ``name``. :raises ConfigError: unknown (nearest name given) or broken."""
    from edge_agent.contract import SinkAdapter

    return _adapter(Group.SINKS, name, SinkAdapter)


def uplink_adapter(name: str) -> UplinkAdapter:
    """The uplink adapter called ``name``. :raises ConfigError: unknown (nearest name given) or broken."""
    from edge_agent.contract import UplinkAdapter

    return _adapter(Group.UPLINKS, name, UplinkAdapter)


def names(group: Group) -> tuple[str, ...]:
    """Names announced in ``group``, sorted; nothing is loaded."""
    return tuple(sorted(_entry_points(group)))


def adapters(group: Group) -> tuple[list[Adapter], list[Unloadable]]:
    """Every adapter of ``group`` that loads, and every one that does not."""
    good: list[Adapter] = []
    broken: list[Unloadable] = []
    for name in names(group):
        try:
            good.append(adapter(group, name))
        except ConfigError as error:
            broken.append(Unloadable(name, _shipped_by(_entry_points(group)[name]), str(error)))
    return good, broken


def load_object(group: Group, name: str) -> Any:
    """What the entry point ``name`` names. :raises ConfigError: unknown or broken, with what to install."""
    entry = _entry_points(group).get(name)
    if entry is None:
        raise ConfigError(_unknown(group, name))
    try:
        return entry.load()
    except Exception as error:  # whatever a stranger's module does on import: it must not take the others down
        raise ConfigError(_broken(group, entry, error)) from error


def build_source(adapter: SourceAdapter, options: SourceOptions, context: AdapterContext) -> Source:
    """One attempt's source. :raises AdapterError: when the client library is not installed, saying what to install."""
    try:
        return adapter.build(options, context)
    except ImportError as error:
        raise _not_installed(adapter, context, error) from error


def build_sink(adapter: SinkAdapter, options: SinkOptions, context: AdapterContext) -> Sink:
    """The sink. :raises AdapterError: when the client library is not installed, saying what to install."""
    try:
        return adapter.build(options, context)
    except ImportError as error:
        raise _not_installed(adapter, context, error) from error


def build_uplink(adapter: UplinkAdapter, options: UplinkOptions, context: AdapterContext) -> Uplink:
    """One attempt's uplink. :raises AdapterError: when the client library is not installed, saying what to install."""
    try:
        return adapter.build(options, context)
    except ImportError as error:
        raise _not_installed(adapter, context, error) from error


def _not_installed(adapter: Adapter, context: AdapterContext, error: ImportError) -> AdapterError:
    where = f"{group_of(adapter).section}.{context.name}"
    return AdapterError(f"{where}: {missing_library(adapter.name, adapter.extra, error)}")


def missing_library(what: str, extra: str | None, error: ImportError) -> str:
    """One sentence: ``what`` needs a library that is not installed, and the command that installs it."""
    library = error.name or str(error)
    if extra is None:
        return f"{what} needs the Python package {library!r}, which cannot be imported ({error})"
    return f"{what} needs {library!r}, which is not installed: pip install '{DISTRIBUTION}[{extra}]'"


@cache
def extras() -> dict[str, tuple[str, ...]]:
    """Each optional extra of our distribution and the installable packages it asks for, without our own name."""
    wanted: dict[str, list[str]] = {}
    for requirement in metadata.requires(DISTRIBUTION) or ():
        match = re.fullmatch(r"([A-Za-z0-9._-]+).*;.*extra == ['\"]([\w-]+)['\"].*", requirement)
        if match:
            wanted.setdefault(match[2], [])
            if match[1] != DISTRIBUTION:
                wanted[match[2]].append(match[1])
    return {name: tuple(packages) for name, packages in wanted.items()}


def missing_packages(extra: str) -> tuple[str, ...]:
    """Packages of ``extra`` that are not installed; nothing is imported."""
    return tuple(package for package in extras().get(extra, ()) if not _installed(package))


def refresh() -> None:
    """Look for entry points again (something was installed meanwhile)."""
    _entry_points.cache_clear()
    extras.cache_clear()


@cache
def _entry_points(group: Group) -> dict[str, EntryPoint]:
    # The first distribution on sys.path wins a name, as for modules.
    found: dict[str, EntryPoint] = {}
    for entry in metadata.entry_points(group=group.value):
        found.setdefault(entry.name, entry)
    return found


def _adapter(group: Group, name: str, kind: type[A]) -> A:
    loaded = load_object(group, name)
    if not isinstance(loaded, kind):
        entry = _entry_points(group)[name]
        raise ConfigError(
            f"{group.noun} adapter {name!r} of {_shipped_by(entry)}: {entry.value} is a "
            f"{type(loaded).__name__}, expected a {kind.__name__}"
        )
    return loaded


def _unknown(group: Group, name: str) -> str:
    known = names(group)
    return f"got {name!r}, expected {a_known_name(f'{group.noun} adapter', known)}{nearest(name, known)}"


def _broken(group: Group, entry: EntryPoint, error: Exception) -> str:
    subject = f"{group.noun} {entry.name!r} of {_shipped_by(entry)}"
    if isinstance(error, ModuleNotFoundError) and error.name and not entry.module.startswith(error.name):
        extra = extra_with(error.name) if _shipped_by(entry) == DISTRIBUTION else None
        return missing_library(subject, extra, error)
    first_line = (str(error).splitlines() or [""])[0]
    return (
        f"{subject} cannot be loaded from {entry.value}: {type(error).__name__}: {first_line}; reinstall that package"
    )


def extra_with(module: str) -> str | None:
    """The smallest extra that brings ``module``, by package names such as torch-geometric for torch_geometric."""
    root = module.split(".")[0].replace("_", "-").lower()
    aliases = {"paho": "paho-mqtt", "serial": "pyserial", "sklearn": "scikit-learn"}
    package = aliases.get(root, root)
    with_it = [extra for extra, packages in extras().items() if package in packages]
    return min(with_it, key=lambda extra: len(extras()[extra]), default=None)


def _shipped_by(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"


def _installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def a_known_name(what: str, known: Sequence[str]) -> str:
    """``one of the source adapters coap, mqtt`` for messages."""
    return f"one of the {what}s {', '.join(known)}" if known else f"a {what}, but none is installed"
