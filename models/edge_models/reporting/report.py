"""The report folder: model card and plots, beside the bundle, for people and not for gateways."""

from __future__ import annotations

from pathlib import Path

from edge_agent.bundle.manifest import CARD, MANIFEST
from edge_agent.errors import DataFileError
from edge_models.reporting.card import model_card
from edge_models.reporting.plots import PLOTS
from edge_models.reporting.record import TrainingRecord

_DPI = 120


def write_report(record: TrainingRecord, folder: Path) -> tuple[Path, ...]:
    """Write ``card.md``, followed by the plots that ``record`` has something for; an earlier report is replaced.

    :raises DataFileError: ``folder`` is a bundle, whose files are fixed by its manifest, or cannot be written.
    """
    if (folder / MANIFEST).exists():
        raise DataFileError(
            f"{folder}: is a model bundle, expected another folder for the report, such as one beside it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = [path for name in PLOTS if (path := _picture(record, folder / name)) is not None]
        card = folder / CARD
        card.write_text(model_card(record) + _gallery(pictures), encoding="utf-8")
    except OSError as error:
        raise DataFileError(f"{folder}: the report cannot be written: {error.strerror or error}") from error
    return (card, *pictures)


def _picture(record: TrainingRecord, path: Path) -> Path | None:
    figure = PLOTS[path.name](record)
    if figure is None:
        path.unlink(missing_ok=True)
        return None
    figure.savefig(path, dpi=_DPI)
    return path


def _gallery(pictures: list[Path]) -> str:
    return "".join(f"\n![{path.stem}]({path.name})\n" for path in pictures)
