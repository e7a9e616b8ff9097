"""What daemon, ``detect`` and ``replay`` say about the same rows, in one form that can be compared."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.pipeline.engine import TickReport


@dataclass(frozen=True)
class RowScores:
    """One row: ``sensors`` holds the scores that are valid, as the bits of a float32."""

    score: float | None
    p_value: float | None
    alarm: bool
    sensors: Mapping[str, int]


Rows = dict[int, RowScores]
"""By the time of the row, ns UTC."""


def of_events(events: Iterable[dict[str, Any]]) -> Rows:
    """From the ``scores`` events that a sink was given."""
    rows = {}
    for event in events:
        body = event["body"]
        row = RowScores(body["score"], body["p_value"], body["alarm"], _bits(body["sensors"]))
        rows[nanoseconds(event["time"])] = row
    return rows


def of_table(path: Path) -> Rows:
    """From the CSV file that ``edge-agent detect`` wrote."""
    rows = {}
    with path.open(newline="") as file:
        for cells in csv.DictReader(file):
            scores = {name[6:]: float(cell) for name, cell in cells.items() if name[:6] == "score." and cell}
            row = RowScores(_number(cells["score"]), _number(cells["p_value"]), cells["alarm"] == "1", _bits(scores))
            rows[int(cells["timestamp"])] = row
    return rows


def of_reports(reports: Iterable[TickReport]) -> Rows:
    """From the ticks of a replay."""
    rows = {}
    for report in reports:
        columns = zip(report.snapshot.sensors, report.scores.score, report.scores.valid, strict=True)
        scores = {name: float(score) for name, score, valid in columns if valid}
        decision = report.decision
        rows[report.time_ns] = RowScores(decision.plant_score, decision.p_value, decision.alarm, _bits(scores))
    return rows


def differences(one: Rows, other: Rows, times: Iterable[int]) -> list[str]:
    """Where the two say different things about the rows at ``times``; equal means equal in every bit."""
    found = []
    for number, time_ns in enumerate(times):
        a, b = one.get(time_ns), other.get(time_ns)
        if a != b or a is None:
            found.append(f"row {number}: {a} against {b}")
    return found


def opened(incidents: Iterable[dict[str, Any]], kind: str) -> list[tuple[str, str | None]]:
    """When an incident of this kind opened, and at which sensor it was first seen."""
    first = {incident["id"]: incident for incident in reversed(list(incidents)) if incident["kind"] == kind}
    return sorted((incident["opened"], incident["first_mover"]) for incident in first.values())


def nanoseconds(rfc3339: str) -> int:
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000) * 1_000_000


def _bits(scores: Mapping[str, float]) -> dict[str, int]:
    values: NDArray[np.float32] = np.array(list(scores.values()), dtype=np.float32)
    return dict(zip(scores, values.view(np.uint32).tolist(), strict=True))


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
