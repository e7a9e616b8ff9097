"""A log of readings through the pipeline again: the ticks are those that the daemon had."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.app import cli
from edge_agent.cli.offline_model import load_model
from edge_agent.cli.replaying import Replay
from edge_agent.clock import NS_PER_S
from edge_agent.pipeline.engine import PipelineOptions, TickReport
from edge_agent.pipeline.options import TickOptions
from edge_agent.recording import ReadingLog, ReadingLogReader
from edge_agent.sample import Batch

WALL_NS = 1_760_000_000 * NS_PER_S
MS = 1_000_000


class Log:
    """Writes readings of one sensor: the value, its source time and its arrival, in ms after ``WALL_NS``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = ReadingLog(path)
        self._booted_ms = 0

    def reboot(self, at_ms: int) -> None:
        self._log.close()
        self._log = ReadingLog(self.path)
        self._booted_ms = at_ms

    def reading(self, value: float, time_ms: int, arrival_ms: int, sensor: str = "a") -> None:
        arrival_ns = (arrival_ms - self._booted_ms) * MS
        batch = Batch((sensor,), [value], arrival_ns, WALL_NS + time_ms * MS)
        self._log.write("plc", batch, WALL_NS + arrival_ms * MS)

    def close(self) -> None:
        self._log.close()

    def replay(self, lateness: str) -> list[TickReport]:
        self.close()
        options = PipelineOptions(tick=TickOptions.model_validate({"period": "1s", "lateness": lateness}))
        return list(Replay(load_model(None), options, None).play(ReadingLogReader(self.path)))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "readings.jsonl")


def values(reports: list[TickReport], sensor: str = "a") -> dict[int, float]:
    """Value by the tick's wall time in ms, where the sensor is known."""
    found = {}
    for report in reports:
        if sensor in report.snapshot.sensors:
            at_ms = (report.time_ns - WALL_NS) // MS
            found[at_ms] = float(report.snapshot.value[report.snapshot.sensors.index(sensor)])
    return found


def test_readings_of_one_moment_are_scored_in_its_tick(log: Log) -> None:
    for second in range(5):
        log.reading(second, second * 1_000, second * 1_000 + 30)
    assert values(log.replay("3s")) == {0: 0.0, 1_000: 1.0, 2_000: 2.0, 3_000: 3.0, 4_000: 4.0}


def test_delays_that_differ_move_no_reading_into_another_tick(log: Log) -> None:
    delays_ms = (400, 2, 350, 2)
    for second, delay_ms in enumerate(delays_ms):
        log.reading(second, second * 1_000 + 1, second * 1_000 + 1 + delay_ms)
    assert values(log.replay("2s")) == {1_000: 0.0, 2_000: 1.0, 3_000: 2.0, 4_000: 3.0}


def test_a_source_that_is_overtaken_begins_no_new_run(log: Log) -> None:
    log.reading(1.0, 500, 600)
    log.reading(5.0, 400, 450, "b")
    log.reading(2.0, 1_500, 1_600)
    reports = log.replay("1s")
    assert values(reports) == {1_000: 1.0, 2_000: 2.0}
    assert values(reports, "b") == {1_000: 5.0, 2_000: 5.0}


def test_after_a_restart_of_the_gateway_times_are_right_again(log: Log) -> None:
    hour_ms = 3_600_000
    log.reading(1.0, 20_000, 20_010)
    log.reading(2.0, 40_000, 40_010)
    log.reboot(hour_ms - 5_000)
    log.reading(3.0, hour_ms, hour_ms + 10)
    log.reading(4.0, hour_ms + 1_000, hour_ms + 1_010)
    reports = log.replay("2s")
    ticks = [report.tick for report in reports]
    assert ticks == sorted(set(ticks))
    found = values(reports)
    assert (found[20_000], found[40_000], found[hour_ms], found[hour_ms + 1_000]) == (1.0, 2.0, 3.0, 4.0)
    flags = {int(flag) for report in reports for flag in report.snapshot.quality[report.snapshot.usable]}
    assert flags == {0}


def replayed(log: Log, *arguments: str) -> Result:
    log.close()
    config = log.path.with_name("agent.yaml")
    config.write_text("sensors: {a: {max: 100}}\n")
    return CliRunner().invoke(cli, ["replay", str(log.path), "-c", str(config), *arguments])


def test_an_incident_that_is_open_at_the_end_is_told_as_such(log: Log) -> None:
    for second in range(40):
        log.reading(5.0 if second < 10 else 500.0, second * 1_000, second * 1_000 + 30)
    result = replayed(log, "--fail-on-incident")
    assert result.exit_code == 1
    assert "  still open at the end  low       a (source plc): outside the possible range, since" in result.output
    assert "1 incident, 1 still open" in result.output


def test_an_incident_ends_with_the_run_it_was_in(log: Log) -> None:
    for second in range(40):
        log.reading(5.0 if second < 10 else 500.0, second * 1_000, second * 1_000 + 30)
    log.reboot(100_000)
    for second in range(100, 105):
        log.reading(5.0, second * 1_000, second * 1_000 + 30)
    result = replayed(log)
    assert "  closed  low       a (source plc): outside the possible range" in result.output
    assert "1 incident, 0 still open" in result.output
