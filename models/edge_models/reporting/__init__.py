"""What a training says of itself: model card, plots, and (optionally) a run in MLflow.

::

    recipe ──► TrainingRecord ─┬─ model_card ───► card.md of the bundle
                               ├─ write_report ─► folder of card and plots, beside the bundle
                               └─ track ────────► MLflow
"""

from edge_models.reporting.card import model_card
from edge_models.reporting.likelihood import gaussian_likelihood
from edge_models.reporting.record import DataSummary, LossPoint, TrainingRecord, summarise, versions
from edge_models.reporting.report import write_report
from edge_models.reporting.tracking import check_tracking, track

__all__ = [
    "DataSummary",
    "LossPoint",
    "TrainingRecord",
    "check_tracking",
    "gaussian_likelihood",
    "model_card",
    "summarise",
    "track",
    "versions",
    "write_report",
]
