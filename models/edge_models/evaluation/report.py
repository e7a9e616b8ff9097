"""Rows as tables for people: on the console, and as Markdown for the docs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from edge_models.evaluation.summary import FaultKind, Row

Cells = tuple[str, ...]
RANKING = ("detector", "VUS-PR", "± seeds", "AUC-PR", "AUROC", "Δ VUS-PR [95 %]", "worst plant")
OPERATING = (
    "detector",
    "found",
    "at our rate",
    "median delay",
    "ADD",
    "false alarms/day [95 %]",
    "budget",
    "alarmed",
    "worst plant",
    "range F1",
    "affil. F1",
    "event F1",
)
CAUSES = (
    "detector",
    "events",
    "HitRate@100",
    "HitRate@150",
    "IPS@100",
    "IPS@150",
    "event@100",
    "top-1",
    "top-3",
    "top-5",
)


def tables(rows: Sequence[Row]) -> list[tuple[str, Cells, list[Cells]]]:
    """For each set title, headings and lines: ranking, operating point, and causes where they are known."""
    found: list[tuple[str, Cells, list[Cells]]] = []
    for name in dict.fromkeys(row.set for row in rows):
        own = [row for row in rows if row.set == name]
        counted = f"{own[0].plants} plants, {own[0].streams} streams"
        found.append((f"{name}: ranking ({counted})", RANKING, [_ranking(row) for row in own]))
        lines = [_operating(row) for row in own if row.operating is not None]
        if lines:
            found.append((f"{name}: at the budget, threshold set without labels", OPERATING, lines))
        lines = [_causes(row) for row in own if row.causes is not None]
        if lines:
            found.append((f"{name}: root cause", CAUSES, lines))
        kinds = tuple(kind.kind for kind in own[0].kinds)
        if kinds:
            lines = [(row.detector, *(_kind(kind) for kind in row.kinds)) for row in own]
            found.append((f"{name}: VUS-PR / faulty sensor named first", ("detector", *kinds), lines))
    return found


def show(rows: Sequence[Row], console: Console) -> None:
    """Tables on the console."""
    for title, headings, lines in tables(rows):
        table = Table(title=title, title_justify="left")
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
        for line in lines:
            table.add_row(*line)
        console.print(table)


def markdown(rows: Sequence[Row]) -> str:
    """The same for documents."""
    parts = []
    for title, headings, lines in tables(rows):
        head = [" | ".join(headings), "---" + "|---:" * (len(headings) - 1)]
        parts.append("\n".join([f"### {title}", "", *(f"| {line} |" for line in head), *map(_line, lines), ""]))
    return "\n".join(parts)


def _line(cells: Cells) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _ranking(row: Row) -> Cells:
    r, d = row.ranking, row.ranking.difference
    difference = "" if d is None else f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
    worst = f"{r.worst_vus_pr:.3f}" + ("" if r.worst is None else f" {r.worst}")
    spread = f"{r.spread:.3f}" if row.seeds > 1 else ""
    return (row.detector, f"{r.vus_pr:.3f}", spread, f"{r.auc_pr:.3f}", f"{r.auroc:.3f}", difference, worst)


def _operating(row: Row) -> Cells:
    o = row.operating
    assert o is not None
    delay = (
        "" if o.median_delay_ticks is None else f"{o.median_delay_ticks:.0f} ticks, {duration(o.median_delay_s or 0)}"
    )
    return (
        row.detector,
        f"{o.found:g}/{o.events}" if o.found == int(o.found) else f"{o.found:.1f}/{o.events}",
        "" if o.matched is None else f"{o.matched:.3g}",
        delay,
        duration(o.mean_delay_s),
        f"{o.per_day:.3g} [{o.per_day_low:.2g}, {o.per_day_high:.2g}]",
        f"{o.budget_per_day:.2g}",
        f"{o.alarmed:.2%}",
        f"{o.worst_per_day:.3g} {o.worst}",
        f"{o.range_f1:.3f}",
        f"{o.affiliation_f1:.3f}",
        f"{o.event_f1:.3f}",
    )


def _causes(row: Row) -> Cells:
    c = row.causes
    assert c is not None
    numbers = (
        c.hit_rate_100,
        c.hit_rate_150,
        c.ips_100,
        c.ips_150,
        c.event_100,
        c.top_1,
        c.top_3,
        c.top_5,
    )
    return (row.detector, str(c.events), *(f"{number:.3f}" for number in numbers))


def _kind(kind: FaultKind) -> str:
    return f"{kind.vus_pr:.3f}" + ("" if kind.top_1 is None else f" / {kind.top_1:.2f}")


def duration(seconds: float) -> str:
    """Such as ``45s``, ``12m`` or ``3.5h``."""
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.1f}h"
