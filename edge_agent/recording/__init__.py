"""Recordings: tables given by a user (CSV, Parquet), and the agent's own log of readings."""

from edge_agent.recording.reading_log import ReadingLog, ReadingLogReader
from edge_agent.recording.table import Recording, read_recording
from edge_agent.recording.write import write_table

__all__ = ["ReadingLog", "ReadingLogReader", "Recording", "read_recording", "write_table"]
