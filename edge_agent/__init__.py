"""The agent: reads sensors, scores them on every tick, reports incidents. Knows no adapter and never imports torch."""

__version__ = "0.1.0"
