"""The configuration as it is in use, value by value, with where each of them is from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge_agent.config.document import Document, Path, read_document
from edge_agent.config.options_text import options_text
from edge_agent.config.overlay import lay_over, leaves
from edge_agent.config.problems import Schema, option_path, resolved, schema_at
from edge_agent.config.schema import ADAPTER_SECTIONS, SECTION_NAMES, SECTIONS, AgentConfig
from edge_agent.registry import adapter

_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Effective:
    """One option. ``value``: as in YAML, ``***`` for a secret, None when the overlay removed it. ``origin``: the place
    that it is from, or ``default``."""

    option: str
    value: str | None
    origin: str


def effective(config: AgentConfig) -> list[Effective]:
    """Every option that is set, and of sections that are no mapping of names also those that are not.

    References are shown as they are written, and are not followed.
    """
    layers = config.layers
    document = read_document(layers.text)
    patch: Any = None
    if layers.overlay is not None:
        patch = read_document(layers.overlay.text()).value
        document = lay_over(document, layers.overlay, config.ota.remote_config)
    found = [_shown(config, document, path, value) for path, value in leaves(document.value or {}, ())]
    found += [
        Effective(option_path(path), None, _place(config, document, path))
        for path, value in leaves(patch or {}, ())
        if value is None
    ]
    found += _defaults({one.option for one in found})
    order = {name: number for number, name in enumerate(SECTION_NAMES)}
    return sorted(found, key=lambda one: order[one.option.partition(".")[0]])


def _shown(config: AgentConfig, document: Document, path: Path, value: Any) -> Effective:
    text = _HIDDEN if _is_secret(config, path, value) else json.dumps(value, ensure_ascii=False)
    return Effective(option_path(path), text, _place(config, document, path))


def _place(config: AgentConfig, document: Document, path: Path) -> str:
    return document.place(path, config.path.name)


def _defaults(given: set[str]) -> Iterator[Effective]:
    for section, options in SECTIONS.items():
        for text in options_text(options):
            option = f"{section}.{text.name}"
            known = any(one == option or one.startswith((f"{option}.", f"{option}[")) for one in given)
            if text.default and "[]" not in option and ".<" not in option and not known:
                yield Effective(option, text.default, "default")


def _is_secret(config: AgentConfig, path: Path, value: Any) -> bool:
    """Whether it must not be shown. A reference says where the secret is and may be."""
    section, below = path[0], path[1:]
    if section in SECTIONS:
        whole: Schema = SECTIONS[str(section)].model_json_schema()
    elif section in ADAPTER_SECTIONS and len(path) > 1:
        options = getattr(config, str(section))[path[1]]
        whole, below = adapter(ADAPTER_SECTIONS[str(section)], options.type).options.model_json_schema(), path[2:]
    else:
        return False
    if isinstance(value, str) and value.startswith("${") and value.endswith("}") and value.count("}") == 1:
        return False
    schema = schema_at(whole, below) or {}
    branches = (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ()))
    return any(resolved(branch, whole).get("format") == "password" for branch in branches)
