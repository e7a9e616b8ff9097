"""The commented sample configuration, rendered from the option classes: it cannot be out of date."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from types import MappingProxyType

from edge_agent.config.options_text import OptionText, options_text, yaml_text
from edge_agent.config.problems import Schema, resolved, schema_at
from edge_agent.config.schema import ADAPTER_SECTIONS, SECTION_NAMES, SECTION_SUMMARIES, SECTIONS
from edge_agent.contract import Adapter
from edge_agent.intake.options import SensorOptions
from edge_agent.options import Options
from edge_agent.registry import adapter

WIDTH = 100
_REPOSITORY = {"repository": "https://updates.example.com/fleet", "root": "ota-root.json"}
_RULES = """\
  # Shown with docs/rules.md; `edge-agent rules test` says how often a rule would have held in the past.
  # dry-run:
  #   when: pump.P101 == on and flow.FIT101 < 0.1 for 30s
  #   severity: high
  #   message: "P101 runs dry, the flow is {flow.FIT101}"
  # tank-high:
  #   sensors: ["tank.*.level"]
  #   limit: {above: 90, deadband: 2}
  #   for: 10s
  # fast-fill:
  #   sensors: [LIT101]
  #   rate: {above: 50, per: 1m}
""".splitlines()
_HEAD = """\
# Configuration of edge-agent.
# A line that is commented out shows an option with its default (or an example, where there is no default).
# Durations and sizes carry their unit: 250ms, 5s, 1h, 10MB. Passwords are best given by reference:
# ${env:NAME}, ${file:/path} or ${credential:name} (systemd). Check this file with `edge-agent check`.
"""


def sample_config(
    sources: Sequence[str] = ("mqtt",), sinks: Sequence[str] = ("file",), uplinks: Sequence[str] = ()
) -> str:
    """A configuration that is valid as it stands, with the sample of each adapter named, and all other options.

    :raises ConfigError: when one of the adapters is not installed.
    """
    chosen = {"sources": sources, "sinks": sinks, "uplinks": uplinks}
    given = {"ota": _REPOSITORY if uplinks else {}}
    lines = [_HEAD]
    for name in SECTION_NAMES:
        lines += _comment(SECTION_SUMMARIES[name], "")
        lines.append(f"{name}:")
        if name in SECTIONS:
            lines += _options(SECTIONS[name], given.get(name, {}))
        elif name == "sensors":
            lines += _sensors()
        elif name == "rules":
            lines += _RULES
        else:
            for adapter_name in chosen[name]:
                lines += _component(name, adapter_name)
        lines.append("")
    return "\n".join(lines)


def sample_files(sources: Sequence[str], sinks: Sequence[str], uplinks: Sequence[str] = ()) -> dict[str, str]:
    """Files that the samples of these adapters name (a register map), by the name they have to have beside the sample.

    An adapter ships them in its package as ``sample-…``.
    """
    chosen = {"sources": sources, "sinks": sinks, "uplinks": uplinks}
    packages = {_package(adapter(ADAPTER_SECTIONS[section], name)) for section in chosen for name in chosen[section]}
    return {
        file.name: file.read_text(encoding="utf-8")
        for package in sorted(packages)
        for file in resources.files(package).iterdir()
        if file.name.startswith("sample-") and file.is_file()
    }


def adapter_sample(adapter: Adapter) -> str | None:
    """The text of ``sample.yaml`` in the adapter's package, if it ships one."""
    try:
        return (resources.files(_package(adapter)) / "sample.yaml").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError, TypeError, ValueError):
        return None


def _package(adapter: Adapter) -> str:
    return adapter.options.__module__.rpartition(".")[0]


def _component(section: str, name: str) -> Iterator[str]:
    found = adapter(ADAPTER_SECTIONS[section], name)
    sample = adapter_sample(found)
    own = _below(section, sample.splitlines()) if sample is not None else []
    if own:
        yield from own
    else:
        yield f"  my-{name}:"
        yield from _options(found.options, {"type": name}, "    ")


def _below(section: str, lines: list[str]) -> list[str]:
    """The lines of a sample that stand under ``section:``."""
    if f"{section}:" not in lines:
        return []
    start = lines.index(f"{section}:") + 1
    end = next((i for i in range(start, len(lines)) if lines[i] and lines[i][0] not in " #"), len(lines))
    return [line for line in lines[start:end] if line.strip()]


def _sensors() -> Iterator[str]:
    yield from _comment("A sensor takes the entry of its exact name, else the first pattern that matches.", "  ")
    yield '  # "LIT*":'
    for text, value in _top_level(SensorOptions):
        yield f"  #   {text.name}: {value}  # {text.description}"


def _options(options: type[Options], given: Mapping[str, str] = MappingProxyType({}), indent: str = "  ") -> list[str]:
    lines: list[str] = []
    for text, value in sorted(_top_level(options), key=lambda item: item[0].default is not None):
        mark = "" if text.name in given or text.default is None else "# "
        if "." in text.name:
            name = "  " * text.name.count(".") + text.name.rpartition(".")[2]
            lines.append(f"{indent}{mark}{name}: {value}  # {_explained(text)}")
        else:
            lines += _comment(_explained(text), indent)
            lines.append(f"{indent}{mark}{text.name}: {given.get(text.name, value)}".rstrip())
    return lines


def _top_level(options: type[Options]) -> Iterator[tuple[OptionText, str]]:
    """Options that are not inside a list or mapping, with a value; nothing for one that only holds others."""
    whole = options.model_json_schema()
    texts = [text for text in options_text(options) if not any(mark in text.name for mark in ("[]", ".<"))]
    for text in texts:
        if any(other.name.startswith(f"{text.name}.") for other in texts):
            yield text, ""
        else:
            schema = schema_at(whole, tuple(text.name.split("."))) or {}
            yield text, text.default or _example(schema, whole, required=text.default is None)


def _explained(text: OptionText) -> str:
    """The description, with the allowed values where they are a short list or a range."""
    return f"{text.description} ({text.takes})" if text.takes.startswith(("one of", "a whole")) else text.description


def _example(schema: Schema, whole: Schema, *, required: bool) -> str:
    """The first example in the option class; else nothing, or the simplest value of the type when one is required."""
    schema = resolved(schema, whole)
    for branch in (schema, *schema.get("anyOf", ())):
        if branch.get("examples"):
            example = branch["examples"][0]
            return str(example) if "250ms" in branch["examples"] else yaml_text(example, {})
    if not required:
        return ""
    if "enum" in schema:
        return yaml_text(schema["enum"][0], {})
    simplest = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "array": [], "object": {}}
    return yaml_text(simplest.get(str(schema.get("type")), "text"), {})


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False)
