"""What ``edge-agent train --from-history`` tells."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edge_models.recipes import command
from edge_models.retraining import ModelReport, RetrainReport


def lines(report: RetrainReport) -> Iterator[str]:
    """The report as it is shown on a terminal."""
    yield from command.lines(report.training)
    yield (
        f"{report.rows_left_out} of {report.rows} rows left out around incidents, "
        f"{report.rows_of_false_alarms} rows of false alarms trained on with more weight, "
        f"{report.rows_rehearsed} rows of earlier training rehearsed."
    )
    yield f"Judged on {report.rows_judged} rows that neither was trained on:"
    yield f"{'':12}{'false incidents':>17}{'alarm share':>13}{'fault AUROC':>13}  log score at .5, .9, .99, .999"
    yield from (_row(model) for model in (report.champion, report.challenger))
    yield from (f"- {reason}" for reason in report.reasons)


def as_json(report: RetrainReport) -> str:
    """The report as one JSON object."""
    return json.dumps(report.to_dict(), indent=2)


def _row(model: ModelReport) -> str:
    auroc = "-" if model.auroc is None else f"{model.auroc:.3f}"
    quantiles = ", ".join(f"{value:.2f}" for value in model.quantiles)
    return f"{model.name:12}{model.false_incidents:17d}{model.alarm_share:13.4f}{auroc:>13}  {quantiles}"
