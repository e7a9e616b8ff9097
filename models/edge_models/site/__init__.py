"""A site model: the universal weights fine-tuned on one plant's own history, with constants for each of its sensors."""

from edge_models.site.options import SiteOptions, TrainReport
from edge_models.site.train import train_site

__all__ = ["SiteOptions", "TrainReport", "train_site"]
