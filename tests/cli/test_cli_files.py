"""``detect``, ``record`` and ``replay``, with a small real bundle and a real Modbus server."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from edge_agent.bundle.store import place_files
from edge_agent.recording import ReadingLog, ReadingLogReader
from edge_agent.sample import Batch

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from bundle_factory import make_files

Run = Callable[..., Result]
SENSORS = ("level", "flow", "pressure")
ROWS, FAULT = 900, slice(800, 860)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "site"
    folder.mkdir()
    place_files(folder, make_files())
    return folder


def plant(rows: int, *, fault: bool) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(rows, len(SENSORS)))
    values = np.array([100.0, 20.0, 3.0]) + noise * [1.0, 0.2, 0.05]
    if fault:
        values[FAULT, 0] += 30
    return values


def write_csv(path: Path, values: np.ndarray, runs: list[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", *(["run"] if runs else []), *SENSORS, "label"])
        for row, reading in enumerate(values):
            time = f"2026-01-01T00:{row // 60 % 60:02}:{row % 60:02}Z"
            writer.writerow([time, *([runs[row]] if runs else []), *map(repr, map(float, reading)), 0])
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def attacked(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "attacked.csv", plant(ROWS, fault=True))


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "normal.csv", plant(1_500, fault=False))


def test_detect_writes_one_row_for_each_row(run: Run, attacked: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = run("detect", attacked, "--bundle", bundle, "--out", out)
    assert result.exit_code == 0, result.output
    rows = read_csv(out)
    wanted = ["timestamp", "score", "p_value", "alarm", "incident", *(f"score.{name}" for name in SENSORS)]
    assert list(rows[0]) == wanted
    assert [row["timestamp"] for row in rows] == [row["timestamp"] for row in read_csv(attacked)]


def test_detect_says_how_many_rows_were_not_judged(run: Run, normal: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = run("detect", normal, "--bundle", bundle, "--out", out)
    waited = sum(row["p_value"] == "" for row in read_csv(out))
    assert waited > 0
    assert f"{waited} rows were taken as warm-up and not judged" in result.stderr
    told = json.loads(run("detect", normal, "--bundle", bundle, "--out", out, "--json").stdout)
    assert told["rows"] - told["judged"] == waited


def test_detect_finds_the_fault(run: Run, attacked: Path, normal: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = run("detect", attacked, "--bundle", bundle, "--warmup", normal, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    rows = read_csv(out)
    assert {row["alarm"] for row in rows[FAULT]} >= {"1"}
    assert {row["alarm"] for row in rows[: FAULT.start]} == {"0"}
    found = json.loads(result.stdout)
    assert found["rows"] == ROWS
    assert found["incidents"][0]["sensors"][0]["sensor"] == "level"
    assert any(row["incident"] == found["incidents"][0]["id"] for row in rows)


def test_detect_keeps_the_runs(run: Run, bundle: Path, tmp_path: Path) -> None:
    runs = ["a"] * 100 + ["b"] * 100
    file = write_csv(tmp_path / "runs.csv", plant(200, fault=False), runs)
    out = tmp_path / "scores.csv"
    assert run("detect", file, "--bundle", bundle, "--out", out).exit_code == 0
    rows = read_csv(out)
    assert [row["run"] for row in rows] == runs
    assert rows[100]["score.level"] == ""  # what was carried is forgotten, so this sensor is new again


def test_detect_writes_parquet(run: Run, attacked: Path, bundle: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "scores.parquet"
    assert run("detect", attacked, "--bundle", bundle, "--out", out).exit_code == 0
    table = pq.read_table(out)
    assert table.num_rows == ROWS
    assert "incident" in table.column_names


def test_detect_is_the_same_every_time(run: Run, attacked: Path, bundle: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for out in outs:
        assert run("detect", attacked, "--bundle", bundle, "--out", out).exit_code == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "scores.txt"), "got '.txt', expected a .csv or .parquet file"),
        (("--out", "scores.csv", "--tick", "5"), "--tick: got '5', expected a duration with its unit"),
        (("--out", "scores.csv", "--run-column", "batch"), "batch"),
    ],
)
def test_detect_refuses_wrong_arguments(
    run: Run, attacked: Path, bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("detect", attacked, "--bundle", bundle, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_detect_refuses_a_broken_bundle(run: Run, attacked: Path, bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in bundle.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.onnx").write_bytes(b"not a model")
    result = run("detect", attacked, "--bundle", broken, "--out", tmp_path / "scores.csv")
    assert result.exit_code == 1
    assert "model.onnx" in result.stderr
    assert not (tmp_path / "scores.csv").exists()


# record and replay


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What a source would have read in 15 minutes, with the fault near the end."""
    path = tmp_path / "readings.log"
    with ReadingLog(path) as out:
        for row, values in enumerate(plant(ROWS, fault=True)):
            arrival_ns = 5_000_000_000 + row * 1_000_000_000
            out.write("plc", Batch(SENSORS, values, arrival_ns), 1_750_000_000_400_000_000 + row * 1_000_000_000)
    return path


def test_replay_tells_the_incident(run: Run, log: Path, bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "replay.yaml"
    config.write_text("decision: {calibration_ticks: 400}\nsensors: {level: {unit: mm}}\n")
    result = run("replay", log, "--bundle", bundle, "-c", config, "--json", "--fail-on-incident")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1, result.output
    opened = [event for event in events if event.get("state") == "open"]
    assert opened[0]["sensors"][0]["sensor"] == "level"
    assert opened[0]["sensors"][0]["unit"] == "mm"
    assert opened[0]["opened"].startswith("2025-06-15T")


def test_replay_counts_ticks(run: Run, log: Path, bundle: Path) -> None:
    result = run("replay", log, "--bundle", bundle)
    assert result.exit_code == 0
    ticks = int(result.stdout.splitlines()[-1].split()[0])
    assert ROWS - 1 <= ticks <= ROWS + 1


def test_replay_writes_a_table_that_detect_takes(run: Run, log: Path, bundle: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "scores.csv"
    assert run("replay", log, "--bundle", bundle, "--table", table).exit_code == 0
    rows = read_csv(table)
    assert list(rows[0]) == ["timestamp", *SENSORS]
    seen = [float(row["level"]) for row in rows if row["level"]]
    assert seen == plant(ROWS, fault=True)[:, 0].tolist()
    assert run("detect", table, "--bundle", bundle, "--out", out).exit_code == 0
    assert len(read_csv(out)) == len(rows)


def test_replay_refuses_a_table_of_another_kind(run: Run, log: Path, bundle: Path, tmp_path: Path) -> None:
    result = run("replay", log, "--bundle", bundle, "--table", tmp_path / "table.xlsx")
    assert result.exit_code == 2
    assert "expected a .csv or .parquet file" in result.stderr


def test_replay_of_something_else_is_refused(run: Run, attacked: Path, bundle: Path) -> None:
    result = run("replay", attacked, "--bundle", bundle)
    assert result.exit_code == 2
    assert "no log of readings" in result.stderr


def test_replay_of_nothing_is_refused(run: Run, bundle: Path, tmp_path: Path) -> None:
    result = run("replay", tmp_path / "none.log", "--bundle", bundle)
    assert result.exit_code == 2
    assert "no such file" in result.stderr


@pytest.fixture
def modbus_port() -> Iterator[int]:
    """A Modbus server in a thread with an event loop of its own."""
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    loop = asyncio.new_event_loop()
    device = SimDevice(1, [SimData(0, count=10, values=7, datatype=DataType.REGISTERS)])
    started: list[ModbusTcpServer] = []

    async def start() -> int:
        server = ModbusTcpServer([device], address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        started.append(server)
        return int(server.transport.sockets[0].getsockname()[1])

    thread = threading.Thread(target=loop.run_forever, name="modbus server")
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(started[0].shutdown(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_record_writes_what_the_sources_read(run: Run, config: Path, modbus_port: int, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("port: 9", f"port: {modbus_port}, interval: 50ms"))
    out = tmp_path / "readings.log"
    result = run("record", "-c", config, "--out", out, "--duration", "600ms", "--json")
    assert result.exit_code == 0, result.output
    readings = list(ReadingLogReader(out))
    assert json.loads(result.stdout)["readings"] == {"plc": len(readings)}
    assert len(readings) >= 3
    source, batch = readings[0]
    assert (source, batch.sensors, list(batch.values)) == ("plc", ("level",), [7.0])


def test_record_refuses_a_wrong_duration(run: Run, config: Path, tmp_path: Path) -> None:
    result = run("record", "-c", config, "--out", tmp_path / "x", "--duration", "5")
    assert result.exit_code == 2
    assert "expected a duration with its unit" in result.stderr


def test_record_keeps_what_was_read_until_ctrl_c(config: Path, modbus_port: int, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("port: 9", f"port: {modbus_port}, interval: 50ms"))
    out = tmp_path / "readings.log"
    command = [sys.executable, "-m", "edge_agent", "record", "-c", str(config), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not (out.exists() and out.stat().st_size > 500):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=20)
    assert (process.returncode, complained) == (0, "")
    assert said.startswith(f"plc: {len(list(ReadingLogReader(out)))} readings\n")


def test_detect_says_when_model_and_recording_do_not_know_each_other(run: Run, normal: Path, tmp_path: Path) -> None:
    for sensors, told in (
        (SENSORS, None),
        (("level", "flow", "speed"), "1 it does not know (pressure) and 1 of its own are missing (speed)"),
        (("x", "y"), "knows none of these sensors"),
    ):
        folder = tmp_path / "-".join(sensors)
        folder.mkdir()
        place_files(folder, make_files(sensors=sensors))
        result = run("detect", normal, "--bundle", folder, "--out", tmp_path / "scores.csv")
        assert result.exit_code == 0, result.output
        assert (told or "") in result.stderr
        assert ("the model" in result.stderr) == (told is not None)
