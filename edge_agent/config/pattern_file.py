"""Files of patterns: the agent's own, and one of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import ValidationError

from edge_agent.config.document import Document, Problem, read_document
from edge_agent.config.problems import found_in, kind_of, option_path, schema_at
from edge_agent.errors import ConfigError
from edge_agent.nearest import nearest
from edge_agent.patterns.library import Library, library_of
from edge_agent.patterns.options import About, PatternFile, PatternOptions

OWN = "patterns.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PatternError(ConfigError):
    """Mistakes in the section ``patterns`` or in the file it names. ``option``: the one of the section to look at."""

    def __init__(self, option: str, *problems: str) -> None:
        super().__init__(*problems)
        self.option = option


@cache
def own_patterns() -> PatternFile:
    """The patterns that come with the agent."""
    text = files("edge_agent.patterns").joinpath(OWN).read_text("utf-8")
    # The fast reader where there is one, as every start waits for it; that both read the same is tested.
    return PatternFile.model_validate(yaml.load(text, Loader=_LOADER))  # noqa: S506 (a safe one)


def load_library(options: PatternOptions) -> Library:
    """The patterns in use. :raises PatternError: the user's file cannot be read, or has mistakes; with every one."""
    if not options.enabled:
        return Library()
    own = own_patterns()
    users = None if options.file is None else read_patterns(options.file, own.techniques, _ids(own))
    library = library_of(own, options, users)
    known = tuple(pattern.id for pattern in own.patterns)
    for name in options.disabled:
        if name not in known:
            raise PatternError("disabled", f"got {name!r}, which is no pattern of the agent{nearest(name, known)}")
    return library


def read_patterns(path: Path, techniques: Mapping[str, str], known: tuple[str, ...]) -> PatternFile:
    """A user's file. ``techniques`` and ``known`` patterns may be referred to. :raises PatternError: as above."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise PatternError("file", f"{path} cannot be read ({error.strerror}); expected a file of patterns") from error
    except UnicodeDecodeError as error:
        raise PatternError("file", f"{path} is not UTF-8 text") from error
    return parse_patterns(text, path, techniques, known)


def parse_patterns(
    text: str, path: Path, techniques: Mapping[str, str] | None = None, known: tuple[str, ...] = ()
) -> PatternFile:
    """Check ``text``; ``path`` is used in messages. :raises PatternError: with every mistake, ordered by line."""
    document = read_document(text)
    found = None if document.problems else _checked(document)
    if found is not None:
        document.problems += _wrong_references(document, found, {**(techniques or {}), **found.techniques}, known)
    if found is None or document.problems:
        ordered = sorted(document.problems, key=lambda problem: problem.line)
        raise PatternError("file", *(_rendered(problem, path) for problem in ordered))
    return found


def _checked(document: Document) -> PatternFile | None:
    value = document.value
    if not isinstance(value, dict):
        document.problems.append(Problem(1, (), f"got {kind_of(value)}, expected `version:` and `patterns:`"))
        return None
    try:
        return PatternFile.model_validate(value)
    except ValidationError as error:
        whole = PatternFile.model_json_schema()
        for where, message in found_in(error, PatternFile, value, set()):
            # Of words the nearest one is told, as of options.
            words = (schema_at(whole, where) or {}).get("enum", ())
            hint = nearest(str(_at(value, where)), [str(word) for word in words])
            document.problems.append(Problem(document.line(where), where, message + hint))
    return None


def _wrong_references(
    document: Document, found: PatternFile, techniques: Mapping[str, str], known: tuple[str, ...]
) -> list[Problem]:
    """Techniques without a name, and patterns that are not there."""
    problems: list[Problem] = []
    where: tuple[str | int, ...]
    ids = (*known, *_ids(found))
    for i, pattern in enumerate(found.patterns):
        for j, technique in enumerate(pattern.techniques):
            if technique not in techniques:
                where = ("patterns", i, "techniques", j)
                hint = nearest(technique, techniques)
                message = f"got {technique!r}, which `techniques` of this file does not name{hint}"
                problems.append(Problem(document.line(where), where, message))
        for j, stage in enumerate(pattern.stages):
            for k, name in enumerate(stage.matches):
                if name not in ids:
                    where = ("patterns", i, "stages", j, "matches", k)
                    message = f"got {name!r}, which is no pattern{nearest(name, ids)}"
                    problems.append(Problem(document.line(where), where, message))
    return problems


def _ids(found: PatternFile) -> tuple[str, ...]:
    return tuple(pattern.id for pattern in found.patterns if pattern.about is not About.INCIDENTS)


def _at(value: object, where: tuple[str | int, ...]) -> object:
    for part in where:
        if isinstance(value, dict):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
    return value


def _rendered(problem: Problem, path: Path) -> str:
    where = option_path(problem.path)
    return f"{path}:{problem.line}: {where}{': ' if where else ''}{problem.message}"
