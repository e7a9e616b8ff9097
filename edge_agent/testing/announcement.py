"""Rules for what an adapter ships, checked without connecting to anything."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import Any, get_args

import yaml

from edge_agent.contract import Adapter
from edge_agent.options import Options
from edge_agent.registry import announced, group_of, missing_packages, names
from edge_agent.testing.rule import require


def check_announcement(adapter: Adapter) -> None:
    """Entry point, options, README and sample are as they should be.

    :raises ConformanceError: naming the rule.
    """
    _check_entry_point(adapter)
    _check_options(adapter)
    _check_files(adapter)
    _check_client_library_is_late(adapter)


def _check_entry_point(adapter: Adapter) -> None:
    group = group_of(adapter)
    require(adapter.name in names(group), f"an entry point {adapter.name!r} is in the group {group.value}")
    require(
        re.fullmatch(r"[a-z][a-z0-9_]*", adapter.name), f"the name {adapter.name!r} is lower-case letters and digits"
    )
    require(adapter.summary.endswith("."), "the summary is a sentence")
    require(adapter.extra is None or not missing_packages(adapter.extra), f"the extra {adapter.extra!r} is installed")


def _check_options(adapter: Adapter) -> None:
    base = announced(group_of(adapter)).options
    require(issubclass(adapter.options, base), f"{adapter.options.__name__} derives from {base.__name__}")
    for options in _option_classes(adapter.options):
        for name, field in options.model_fields.items():
            require(field.description, f"option {options.__name__}.{name} has a description")


def _option_classes(annotation: Any, seen: set[Any] | None = None) -> Iterator[type[Options]]:
    seen = set() if seen is None else seen
    if isinstance(annotation, type) and issubclass(annotation, Options) and annotation not in seen:
        seen.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            yield from _option_classes(field.annotation, seen)
    for argument in get_args(annotation):
        yield from _option_classes(argument, seen)


def _check_files(adapter: Adapter) -> None:
    folder = _folder(adapter)
    for name in ("README.md", "sample.yaml"):
        require((folder / name).is_file(), f"{name} is beside the adapter {adapter.name}, inside its package")
    sample = yaml.safe_load((folder / "sample.yaml").read_text(encoding="utf-8"))
    section = group_of(adapter).section
    entries = [entry for entry in (sample.get(section) or {}).values() if entry.get("type") == adapter.name]
    require(entries, f"sample.yaml shows a component of type {adapter.name} under `{section}`")


def _folder(adapter: Adapter) -> Traversable:
    return resources.files(adapter.options.__module__.rpartition(".")[0])


_LOAD = """
import sys
from importlib import metadata
[entry] = metadata.entry_points(group=sys.argv[1], name=sys.argv[2])
entry.load()
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def _check_client_library_is_late(adapter: Adapter) -> None:
    """In a fresh interpreter, because here the library may be loaded already."""
    command = [sys.executable, "-c", _LOAD, group_of(adapter).value, adapter.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    require(done.returncode == 0, f"the entry point loads: {done.stderr.strip().splitlines()[-1:]}")
    early = set(done.stdout.split()) & _client_modules(adapter)
    require(not early, f"loading the entry point does not import the client library (it imported {sorted(early)})")


def _client_modules(adapter: Adapter) -> set[str]:
    """Modules of the packages that only this adapter's extra, or its own distribution, asks for."""
    [entry] = metadata.entry_points(group=group_of(adapter).value, name=adapter.name)
    requires = (entry.dist.requires if entry.dist is not None else None) or []
    own = {
        _package(text) for text in requires if adapter.extra and f"extra == '{adapter.extra}'" in text.replace('"', "'")
    }
    if adapter.extra is None:
        own = {_package(text) for text in requires if "extra ==" not in text}
    ours = {_package(text) for text in metadata.requires("edge-graph-agent") or [] if "extra ==" not in text}
    wanted = own - ours - {"edge-graph-agent"}
    return {
        module
        for module, packages in metadata.packages_distributions().items()
        if wanted & {package.lower().replace("_", "-") for package in packages}
    }


def _package(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0].lower().replace("_", "-") if match else ""
