"""Scores to few incidents: calibration, thresholds, hysteresis, grouping. Pure."""
