"""Readings to decisions: the tick that ties intake, graph, detector and decision together."""
