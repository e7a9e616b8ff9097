"""The history that is trained on, and what is told about it."""

from __future__ import annotations

from pathlib import Path

from edge_models.histories import History, open_history
from edge_models.histories.findings import Report
from edge_models.site.options import SiteOptions


def opened(data: str | Path, options: SiteOptions) -> History:
    """The history ``data``, as ``options`` say it is to be read. :raises DataFileError: it cannot be."""
    history = open_history(
        data,
        run_column=options.run_column,
        tick_s=options.tick_s,
        select=options.select,
        units=options.units,
        names=options.names,
    )
    history.where = options.gathered_from or history.where
    return history


def warnings_of(report: Report, options: SiteOptions) -> tuple[str, ...]:
    """What is odd about the history, but not what whoever gathered it meant to be so."""
    meant = () if options.gathered_from is None else ("repeated_rows",)
    return tuple(one.text for one in report.warnings if one.kind not in meant)
