"""Register maps in files of their own: CSV as vendors' tables are, or YAML. Every mistake is named by file and line."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edge_adapters.modbus.registers import RegisterOptions

MAX_BYTES = 16_000_000
_SHOWN = 20


def load_map(path: Path) -> list[RegisterOptions]:
    """The registers of a ``.csv``, ``.yaml`` or ``.yml`` file.

    :raises ValueError: the file cannot be read or has mistakes; one line of the message for each (at most 20).
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".yaml", ".yml"):
        raise ValueError(f"{path}: got {suffix!r}, expected a .csv, .yaml or .yml file")
    text = _text(path)
    rows = _csv_rows(path, text) if suffix == ".csv" else _yaml_rows(path, text)
    registers, problems = _validated(path, rows)
    if problems:
        more = len(problems) - _SHOWN
        raise ValueError("\n".join(problems[:_SHOWN]) + (f"\n… and {more} more" if more > 0 else ""))
    if not registers:
        raise ValueError(f"{path}: got no registers, expected at least one")
    return registers


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES} bytes, expected a register map")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def _validated(path: Path, rows: Iterator[tuple[int, dict[str, Any] | str]]) -> tuple[list[RegisterOptions], list[str]]:
    registers: list[RegisterOptions] = []
    problems: list[str] = []
    for line, row in rows:
        if isinstance(row, str):
            problems.append(f"{path}:{line}: {row}")
            continue
        try:
            registers.append(RegisterOptions.model_validate(row))
        except ValidationError as error:
            problems += [f"{path}:{line}: {_sentence(detail)}" for detail in error.errors()]
    return registers, problems


def _sentence(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"{where}: missing"
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown{_nearest(where)}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    got = "" if message.startswith(("got", "type", "bit", "time")) or not where else f"got {detail['input']!r}, "
    return f"{where}: {got}{message}" if where else message


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, RegisterOptions.model_fields, n=1)
    return f", did you mean {near[0]!r}?" if near else f", expected one of {', '.join(RegisterOptions.model_fields)}"


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line and cells of each row, or what is wrong with it. :raises ValueError: the header is of no use."""
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if _holds_data(line)), None)
    if first is None:
        raise ValueError(f"{path}: empty, expected a header line with name,address,…")
    delimiter = ";" if lines[first].count(";") > lines[first].count(",") else ","
    header = [cell.strip() for cell in next(csv.reader([lines[first]], delimiter=delimiter))]
    _check_header(path, first + 1, header)
    for number, line in enumerate(lines[first + 1 :], start=first + 2):
        if _holds_data(line):
            cells = next(csv.reader([line], delimiter=delimiter))
            if len(cells) > len(header):
                yield number, f"got {len(cells)} cells, expected {len(header)} as in the header"
                continue
            yield number, {key: cell.strip() for key, cell in zip(header, cells, strict=False) if cell.strip()}


def _holds_data(line: str) -> bool:
    return bool(line.strip(" ,;\t")) and not line.lstrip().startswith("#")


def _check_header(path: Path, line: int, header: Sequence[str]) -> None:
    for column in header:
        if column not in RegisterOptions.model_fields:
            raise ValueError(f"{path}:{line}: column {column!r}: unknown{_nearest(column)}")
    if len(set(header)) < len(header):
        raise ValueError(f"{path}:{line}: got a column twice in {','.join(header)}, expected each once")
    for required in ("name", "address"):
        if required not in header:
            raise ValueError(f"{path}:{line}: column {required!r} is missing, found {','.join(header)}")


def _yaml_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line and content of each item, or what is wrong with it. :raises ValueError: this is no list in YAML."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.SequenceNode):
            raise ValueError(f"{path}:1: expected a list of registers (lines that start with '- name:')")
        loader = yaml.SafeLoader("")
        for node in root.value:
            line = node.start_mark.line + 1
            if not isinstance(node, yaml.MappingNode):
                yield line, "expected a register with name and address"
                continue
            yield line, {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(
            f"{path}:{mark.line + 1 if mark else 1}: not YAML: {getattr(error, 'problem', error)}"
        ) from error
