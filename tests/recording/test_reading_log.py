from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import DataFileError, StoreError
from edge_agent.recording import ReadingLog, ReadingLogReader
from edge_agent.sample import Batch, Quality

SENSORS = ("level", "flow")


def batch(number: int) -> Batch:
    return Batch(SENSORS, np.array([number, number / 3]), number, 1_000 + number, 0)


def test_what_is_written_is_read_with_source_times(tmp_path: Path) -> None:
    with ReadingLog(tmp_path / "log") as log:
        log.write("plc", Batch(SENSORS, [1.0, float("nan")], 5, None, [0, int(Quality.BAD)]), 777)
        log.write("mqtt", Batch(SENSORS, [2.0, 1 / 3], 6, [None, 42], 0), 778)
        log.write("plc", Batch(("x",), np.array([1e308]), 7, 99, Quality.BAD), 779)
    items = list(ReadingLogReader(tmp_path / "log"))
    assert [source for source, _ in items] == ["plc", "mqtt", "plc"]
    assert [item.source_time_ns for _, item in items] == [777, [778, 42], 99]
    assert [item.quality for _, item in items] == [[0, 1], 0, 1]
    assert [item.arrival_ns for _, item in items] == [5, 6, 7]
    np.testing.assert_array_equal(items[0][1].values, [1.0, np.nan])
    assert items[1][1].values[1] == 1 / 3
    assert items[2][1].sensors == ("x",)


def test_batches_of_one_layout_share_their_sensors(tmp_path: Path) -> None:
    with ReadingLog(tmp_path / "log") as log:
        sizes = [log.write("plc", batch(number), 0) for number in range(3)]
    items = [item for _, item in ReadingLogReader(tmp_path / "log")]
    assert items[0].sensors is items[2].sensors
    assert sizes[1] < sizes[0]


def test_full_file_is_rotated_and_only_so_many_are_kept(tmp_path: Path) -> None:
    with ReadingLog(tmp_path / "log", max_bytes=2_000, keep=2) as log:
        for number in range(300):
            log.write("plc", batch(number), 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size < 2_200 for file in tmp_path.iterdir())
    numbers = [item.arrival_ns for _, item in ReadingLogReader(tmp_path / "log")]
    assert numbers == list(range(numbers[0], 300))
    assert 60 < len(numbers) < 300


def test_log_of_an_earlier_start_is_kept(tmp_path: Path) -> None:
    for number in range(2):
        with ReadingLog(tmp_path / "log") as log:
            log.write("plc", batch(number), 0)
    assert [item.arrival_ns for _, item in ReadingLogReader(tmp_path / "log")] == [0, 1]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_torn_tail_loses_the_last_line_only(tmp_path: Path, cut: int) -> None:
    with ReadingLog(tmp_path / "log") as log:
        for number in range(10):
            log.write("plc", batch(number), 0)
    content = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(content[:-cut])
    reader = ReadingLogReader(tmp_path / "log")
    read = len(list(reader))
    assert read >= 8
    assert read + reader.damaged <= 10


def test_damaged_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    with ReadingLog(tmp_path / "log") as log:
        log.write("plc", batch(1), 0)
    with (tmp_path / "log").open("ab") as file:
        file.write(b"\n[9,1,1,0,[1,2]]\n[0,1,1,0,[1]]\n[0,1,1,0]\n{}\n17\n[0,1,[1],0,[1,2]]\n\xff\xfe\n")
        file.write(random.Random(1).randbytes(1_000) + b"\n[0,2,1,0,[1,2]]\n")
    reader = ReadingLogReader(tmp_path / "log")
    assert [item.arrival_ns for _, item in reader] == [1, 2]
    assert reader.damaged >= 8


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file"):
        ReadingLogReader(tmp_path / "log")
    (tmp_path / "log").write_text("timestamp,a\n")
    with pytest.raises(DataFileError, match="no log of readings"):
        list(ReadingLogReader(tmp_path / "log"))


def test_log_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    log = ReadingLog(tmp_path / "folder" / "log")
    with pytest.raises(StoreError, match="cannot be written"):
        log.write("plc", batch(1), 0)
    with pytest.raises(ValueError, match="got max_bytes 1, keep 4"):
        ReadingLog(tmp_path / "log", max_bytes=1)


def test_full_disk_is_a_store_error(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from edge_agent.errors import StoreError
from edge_agent.recording import ReadingLog
from edge_agent.sample import Batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log = ReadingLog(Path({str(tmp_path / "log")!r}))
try:
    for number in range(10_000):
        log.write("plc", Batch(("a",), [1.0], number, 1), 0)
except StoreError as error:
    print(error)
try:
    log.close()
except StoreError as error:
    print("closed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "log: cannot be written: File too large" in done.stdout, done.stderr
