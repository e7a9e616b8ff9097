"""Readings into the graph: naming, ownership, time, data-quality checks."""
