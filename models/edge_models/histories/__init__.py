"""Histories to train on: one streaming interface over many formats, and what is wrong with them."""

from edge_models.histories.block import Block, Rows
from edge_models.histories.history import History, open_history

__all__ = ["Block", "History", "Rows", "open_history"]
