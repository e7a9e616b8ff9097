"""Laying a configuration that came over the air over the gateway's own: merged, and kept to what it may change.

Merged as RFC 7396 (JSON Merge Patch) says: mappings are merged, ``null`` removes, everything else replaces.

Whoever has the key that signs configurations must not get more than the operator allows: an overlay has the sections
that the gateway's own file lists, no references (they would read files and secrets) and no paths. Of a source or sink
it says only what all of them have: where it connects to, and with what secrets, no overlay can change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_agent.config.document import Document, Path, Problem, read_document
from edge_agent.config.layers import Layers, Overlay
from edge_agent.config.problems import kind_of, option_path, schema_at
from edge_agent.config.schema import SECTION_NAMES, SECTIONS
from edge_agent.contract import SinkOptions, SourceOptions
from edge_agent.errors import ConfigError
from edge_agent.nearest import nearest
from edge_agent.ota.options import REMOTE_SECTIONS, REMOTE_SECTIONS_ON_REQUEST

_PATHS = {"path", "file-path", "directory-path"}
_CLOSED = ("type", "start")  # another adapter has other secrets; `start: fail` would stop the agent
_OPEN: Mapping[str, tuple[str, ...]] = {
    "sources": tuple(name for name in SourceOptions.model_fields if name not in _CLOSED),
    "sinks": tuple(name for name in SinkOptions.model_fields if name not in _CLOSED),
}
"""What an overlay may say of a source or sink."""


def merge_patch(base: Any, patch: Any) -> Any:
    """``patch`` applied to ``base`` as in RFC 7396, section 2; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


@dataclass(slots=True)
class Layered(Document):
    """The values of two documents, one laid over the other.

    ``over``: lines in the overlay, of all that is written or removed there; ``lines``: those in the base of what is
    left of it.
    """

    label: str = ""
    over: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of ``path``, or of the nearest option around it that was written, in the text that it is from."""
        path = self._written(path)
        return self.over.get(path, self.lines.get(path, 1))

    def where(self, problem: Problem, file: str) -> str:
        """The place in the overlay; or that of the base which the overlay does not fit."""
        place = self.place(problem.path, file)
        return place if self._written(problem.path) in self.over else f"{self.label}: does not fit {place}"

    def place(self, path: Path, file: str) -> str:
        """Where ``path`` is from: ``config of release X: line 3``, or in ``file``, which is the base."""
        from_overlay = self._written(path) in self.over
        return f"{self.label}: line {self.line(path)}" if from_overlay else f"{file}:{self.line(path)}"

    def _written(self, path: Path) -> Path:
        while path and path not in self.over and path not in self.lines:
            path = path[:-1]
        return path


def lay_over(base: Document, overlay: Overlay, allowed: Collection[str]) -> Layered:
    """``overlay`` over ``base``, which is not changed.

    :raises ConfigError: the overlay is no YAML, or has what it must not have; with every mistake and its line.
    """
    patch = read_document(overlay.text())
    if not patch.problems:
        patch.problems += list(_forbidden(patch, base.value if isinstance(base.value, dict) else {}, allowed))
    if patch.problems:
        raise ConfigError(*said_of(overlay.label, patch.problems))
    written = {} if patch.value is None else patch.value
    kept = {path: line for path, line in base.lines.items() if not _replaced(path, written)}
    return Layered(merge_patch(base.value or {}, written), kept, [], overlay.label, dict(patch.lines))


def said_of(label: str, problems: Collection[Problem]) -> list[str]:
    """The mistakes of an overlay in the order of its lines."""
    ordered = sorted(problems, key=lambda problem: (problem.line, option_path(problem.path)))
    return [
        f"{label}: line {one.line}: {option_path(one.path)}{': ' if one.path else ''}{one.message}" for one in ordered
    ]


def overruled_options(layers: Layers) -> list[str]:
    """Options that the gateway's own file sets and its overlay sets otherwise or removes."""
    if layers.overlay is None:
        return []
    base, patch = read_document(layers.text).value, read_document(layers.overlay.text()).value
    return [option_path(path) for path in _overruled(base, {} if patch is None else patch, ())]


def _overruled(base: Any, patch: Any, path: Path) -> Iterator[Path]:
    if isinstance(base, dict) and isinstance(patch, dict):
        for name in base:
            if name in patch:
                yield from _overruled(base[name], patch[name], (*path, name))
    elif base != patch:
        yield path


def _replaced(path: Path, patch: Any) -> bool:
    """Whether what the base has at ``path`` is not there any more under ``patch``."""
    for part in path:
        if not isinstance(patch, dict):
            return True
        if part not in patch:
            return False
        patch = patch[part]
    return not isinstance(patch, dict)


# -- what an overlay must not have -----------------------------------------------------------------------------


def _forbidden(patch: Document, base: Mapping[str, Any], allowed: Collection[str]) -> Iterator[Problem]:
    value = patch.value if patch.value is not None else {}
    if not isinstance(value, dict):
        yield Problem(patch.line(()), (), f"got {kind_of(value)}, expected sections: {', '.join(allowed) or 'none'}")
        return
    for section in value:
        refusal = _refusal(section, allowed)
        if refusal is not None:
            yield Problem(patch.line((section,)), (section,), refusal)
            continue
        for where, message in _in_section(section, value[section], base.get(section)):
            yield Problem(patch.line(where), where, message)


def _refusal(section: str, allowed: Collection[str]) -> str | None:
    if section in (*REMOTE_SECTIONS, *REMOTE_SECTIONS_ON_REQUEST):
        if section in allowed:
            return None
        return f"may not come over the air here; `ota.remote_config` of this gateway has {', '.join(allowed) or 'none'}"
    if section in SECTION_NAMES:
        return "can never come over the air; it is set in the gateway's own file only"
    return f"is not a section{nearest(section, SECTION_NAMES) or ''}"


def _in_section(section: str, value: Any, base: Any) -> Iterator[tuple[Path, str]]:
    for path, text in leaves(value, (section,)):
        if isinstance(text, str) and "${" in text:
            yield path, "has a reference (`${`), which is only followed in the gateway's own file; write the value"
    if section in SECTIONS:
        yield from _paths(section, value)
    elif section in _OPEN and isinstance(value, dict):
        known = base if isinstance(base, dict) else {}
        for name, entry in value.items():
            yield from _of_adapter(section, name, entry, known)


def _of_adapter(section: str, name: str, entry: Any, known: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What must not be said of the source or sink ``name``. That it is not wanted may be."""
    if entry is not None and name not in known:
        yield (section, name), "is not in the gateway's own file; connections are made there only"
        return
    for option in entry if isinstance(entry, dict) else ():
        if option not in _OPEN[section]:
            yield (
                (section, name, option),
                f"is set in the gateway's own file only; what may come over the air: {', '.join(_OPEN[section])}",
            )


def _paths(section: str, value: Any) -> Iterator[tuple[Path, str]]:
    """Options that name a file. That none is wanted may be said."""
    whole = SECTIONS[section].model_json_schema()
    for option in value if isinstance(value, dict) else ():
        schema = schema_at(whole, (option,)) or {}
        formats = {branch.get("format") for branch in (schema, *schema.get("anyOf", ()))}
        if value[option] is not None and formats & _PATHS:
            yield (section, option), "is a path; files are named in the gateway's own file only"


def leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Path and value of everything in ``value`` that is no mapping or list, or an empty one."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
