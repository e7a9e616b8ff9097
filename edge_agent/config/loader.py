"""One YAML file to one :class:`AgentConfig`, or to every mistake in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from edge_agent.config.checks import contradictions
from edge_agent.config.document import MAX_BYTES, Document, Problem, read_document
from edge_agent.config.document import Path as OptionPath
from edge_agent.config.layers import OVER_THE_AIR, Layers, Overlay, overlay_path, read_overlay
from edge_agent.config.overlay import lay_over
from edge_agent.config.problems import MAPPING, found_in, kind_of, option_path
from edge_agent.config.references import Resolver
from edge_agent.config.schema import ADAPTER_SECTIONS, SECTION_NAMES, SECTIONS, AgentConfig
from edge_agent.errors import ConfigError
from edge_agent.intake.options import SensorOptions
from edge_agent.nearest import nearest
from edge_agent.options import Options
from edge_agent.pipeline.options import ModelOptions
from edge_agent.registry import Group, a_known_name, adapter, names
from edge_agent.rules.options import RuleOptions

O = TypeVar("O", bound=Options)  # noqa: E741
_PLACE = re.compile(r"[0-9]+:[0-9]+: ")
_COMPONENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def load_config(
    path: Path,
    env: Mapping[str, str] = os.environ,
    *,
    sources_required: bool = True,
    overlay: Overlay | None = None,
) -> AgentConfig:
    """Read and check the file at ``path``, with ``overlay`` laid over it.

    :raises ConfigError: with every mistake, as ``file:line: option: …``; those of the overlay name its release.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; `edge-agent init` writes a sample") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text (byte {content[error.start]:#04x})") from error
    return parse_config(text, path, env, sources_required=sources_required, overlay=overlay)


def load_in_use(path: Path, env: Mapping[str, str] = os.environ, *, sources_required: bool = True) -> AgentConfig:
    """As the agent starts with it: the file at ``path``, with the overlay in the data folder that it names.

    An overlay that cannot be used is left out, and ``layers.left_out`` says why: the gateway's own file is enough to
    work with.

    :raises ConfigError: the file itself has mistakes.
    """
    base = load_config(path, env, sources_required=sources_required)
    try:
        overlay = read_overlay(overlay_path(base.agent.data_dir))
        return parse_config(base.layers.text, path, env, sources_required=sources_required, overlay=overlay)
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return base
        why = str(error)
    except Exception as error:
        # A mistake of ours in reading it must not keep every gateway that has it from starting.
        why = f"{OVER_THE_AIR}: {error!r}"
    return replace(base, layers=replace(base.layers, left_out=why))


def parse_config(
    text: str,
    path: Path,
    env: Mapping[str, str] = os.environ,
    *,
    sources_required: bool = True,
    overlay: Overlay | None = None,
) -> AgentConfig:
    """Check ``text``, and with ``overlay`` what the two give together; ``path`` is used in messages, and its folder for
    relative paths. What the overlay may change is said by ``ota.remote_config`` of ``text``.

    ``sources_required`` is False where the readings come from elsewhere (``edge-agent detect``).
    :raises ConfigError: with every mistake, ordered by line. The text has to be right without its overlay.
    """
    document = read_document(text)
    base = _checked(document, path, env, sources_required)
    if overlay is None:
        return replace(base, layers=Layers(text))
    both = lay_over(document, overlay, base.ota.remote_config)
    return replace(_checked(both, path, env, sources_required), layers=Layers(text, overlay))


def _checked(document: Document, path: Path, env: Mapping[str, str], sources_required: bool) -> AgentConfig:
    resolver = Resolver(document, path.parent, env)
    config = None
    if not document.problems:
        config = _Assembly(document, resolver, path).build(sources_required)
    if config is None or document.problems:
        ordered = sorted(document.problems, key=lambda problem: (problem.line, option_path(problem.path)))
        raise ConfigError(*(resolver.hide(_rendered(problem, document, path)) for problem in ordered))
    return config


def _rendered(problem: Problem, document: Document, path: Path) -> str:
    where = option_path(problem.path)
    # The place of a mistake inside a text, as `rules.overflow.when:1:23: …`.
    mark = ":" if _PLACE.match(problem.message) else ": "
    return f"{document.where(problem, str(path))}: {where}{mark if where else ''}{problem.message}"


class _Assembly:
    """Builds the sections one after the other; a mistake in one does not hide those in the next."""

    def __init__(self, document: Document, resolver: Resolver, path: Path) -> None:
        self._document = document
        self._resolver = resolver
        self._path = path

    def build(self, sources_required: bool) -> AgentConfig | None:
        value = self._document.value if self._document.value is not None else {}
        if not isinstance(value, dict):
            self._problem((), f"got {kind_of(value)}, expected sections: {', '.join(SECTION_NAMES)}")
            return None
        self._check_section_names(value)
        value = self._resolver.resolve({name: value[name] for name in SECTION_NAMES if name in value})
        sections: dict[str, Any] = {
            name: self._options(options, value.get(name), (name,)) for name, options in SECTIONS.items()
        }
        sections["model"] = self._with_bundle_path(sections["model"])
        sections["sensors"] = self._named("sensors", value, self._sensor)
        sections["rules"] = self._named("rules", value, self._rule)
        for name, group in ADAPTER_SECTIONS.items():
            sections[name] = self._named(name, value, self._adapter_of(group))
        if sources_required and not value.get("sources"):
            self._problem(("sources",), "is empty, expected at least one source; `edge-agent init` shows how")
        if self._document.problems:
            return None
        config = AgentConfig(path=self._path, **sections)
        for where, message in contradictions(config):
            self._problem(where, message)
        return config

    def _check_section_names(self, value: dict[str, Any]) -> None:
        for name in value:
            if name not in SECTION_NAMES:
                hint = nearest(name, SECTION_NAMES) or f"; known: {', '.join(SECTION_NAMES)}"
                self._problem((name,), f"is not a section{hint}")

    def _named(self, section: str, value: dict[str, Any], read: Any) -> Mapping[str, Any]:
        entries = value.get(section)
        if entries is None:
            return MappingProxyType({})
        if not isinstance(entries, dict):
            self._problem((section,), f"got {kind_of(entries)}, expected a mapping: a name, then its options")
            return MappingProxyType({})
        return MappingProxyType({name: read(entry, (section, name)) for name, entry in entries.items()})

    def _sensor(self, value: Any, path: OptionPath) -> SensorOptions | None:
        return self._options(SensorOptions, value, path)

    def _rule(self, value: Any, path: OptionPath) -> RuleOptions | None:
        self._check_name(path)
        return self._options(RuleOptions, value, path)

    def _check_name(self, path: OptionPath) -> None:
        if not _COMPONENT_NAME.fullmatch(str(path[-1])):
            self._problem(path, "is not a usable name: expected 1 to 64 letters, digits, `_`, `.` or `-`")

    def _adapter_of(self, group: Group) -> Any:
        def read(value: Any, path: OptionPath) -> Options | None:
            self._check_name(path)
            if not isinstance(value, dict):
                self._problem(path, "got no options, expected at least `type`")
                return None
            options = self._options_class(group, value, path)
            return self._options(options, value, path) if options is not None else None

        return read

    def _with_bundle_path(self, options: ModelOptions | None) -> ModelOptions | None:
        # `bundle` is either a word or a path, so it is not found among the options of type path.
        bundle = options.path() if options is not None else None
        if options is None or bundle is None or bundle.is_absolute():
            return options
        return options.model_copy(update={"bundle": str(self._path.absolute().parent / bundle)})

    def _options_class(self, group: Group, value: dict[str, Any], path: OptionPath) -> type[Options] | None:
        if "type" not in value:
            self._problem(
                (*path, "type"), f"is missing, expected {a_known_name(f'{group.noun} adapter', names(group))}"
            )
            return None
        try:
            return adapter(group, str(value["type"])).options
        except ConfigError as error:
            self._problem((*path, "type"), str(error))
            return None

    def _options(self, options: type[O], value: Any, path: OptionPath) -> O | None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            first = next(iter(options.model_fields))
            self._problem(path, f"got {value!r}, expected {MAPPING} such as `{first}:`")
            return None
        try:
            folder = self._path.absolute().parent
            # `directory`: where option classes that read a file themselves start from.
            return _with_absolute_paths(options.model_validate(value, context={"directory": folder}), folder)
        except ValidationError as error:
            secret = {where[len(path) :] for where in self._resolver.written if where[: len(path)] == path}
            for below, message in found_in(error, options, value, secret):
                self._problem((*path, *below), message)
            return None

    def _problem(self, path: OptionPath, message: str) -> None:
        if path not in self._resolver.unresolved:
            self._document.problems.append(Problem(self._document.line(path), path, message))


def _with_absolute_paths(options: O, folder: Path) -> O:
    """Paths in ``options`` made absolute, from the folder of the configuration file. ``-`` is standard output."""
    changed = {name: _absolute(getattr(options, name), folder) for name in type(options).model_fields}
    changed = {name: value for name, value in changed.items() if value is not getattr(options, name)}
    # `update` marks every name in it as given by the user; those were not default values anyway.
    return options.model_copy(update=changed) if changed else options


def _absolute(value: Any, folder: Path) -> Any:
    """``value`` itself when there is no relative path in it, else a copy."""
    if isinstance(value, Path):
        return value if value.is_absolute() or str(value) == "-" else folder / value
    if isinstance(value, Options):
        return _with_absolute_paths(value, folder)
    if isinstance(value, tuple):
        items = tuple(_absolute(item, folder) for item in value)
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, dict):
        entries = {key: _absolute(item, folder) for key, item in value.items()}
        return value if all(entries[key] is value[key] for key in value) else entries
    return value
