"""A real recording through mosquitto, libcoap and libmodbus into the daemon: the scores are those of ``detect``."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, MosquittoProcess, free_port, until
from recording_devices import CoapNodes, Excerpt, ModbusPlc, MqttMotes, build_modbus_server, play, read_rows
from recording_scores import Rows, differences, nanoseconds, of_events, of_reports, of_table, opened

from edge_agent.cli.offline_model import load_model, pipeline_options
from edge_agent.cli.replaying import Replay
from edge_agent.config import load_config
from edge_agent.recording import ReadingLogReader

pytestmark = [pytest.mark.counterpart, pytest.mark.slow]

RECORDING = Path(__file__).parents[1] / "data" / "wsn_multihop.csv"
BY_MQTT = tuple(f"mote{n}_outdoor_{what}" for n in (1, 2) for what in ("humidity_pct", "temperature_C"))
BY_COAP = ("mote3_indoor_humidity_pct", "mote3_indoor_temperature_C")
BY_MODBUS = ("mote4_indoor_humidity_pct", "mote4_indoor_temperature_C")
PERIOD_NS = 50_000_000
COUNTED = ("readings_late", "ticks_missed", "clock_jumps")
LATENESS_S = 8  # what a slow machine may lag behind; it costs time only at the end


def config(mqtt: int, coap: int, modbus: int, client: str) -> str:
    registers = [f"{{name: {name}, address: {4 * n}, type: float64}}" for n, name in enumerate(BY_MODBUS)]
    registers.append(f"{{name: clock, address: {4 * len(BY_MODBUS)}, type: uint64, time: ms}}")
    return f"""
tick: {{period: {PERIOD_NS // 1_000_000}ms, lateness: {LATENESS_S}s}}
decision: {{calibration_ticks: 100, false_alarms: 1 per hour, detect_within: 1s, close_after: 2s}}
sources:
  motes:
    type: mqtt
    port: {mqtt}
    client_id: {client}
    session_expiry: 1h
    subscriptions: [{{topic: "plant/{{sensor}}", qos: 1, payload: {{value: $.v, time: $.t}}}}]
  nodes:
    type: coap
    server: {{listen: "127.0.0.1:{coap}", resources: [{{path: /senml}}]}}
  plc:
    type: modbus
    host: 127.0.0.1
    port: {modbus}
    interval: 20ms
    retry_max: 200ms
    devices: [{{registers: [{", ".join(registers)}]}}]
"""


@dataclass(frozen=True)
class Played:
    """What is left of the replay into the running daemon."""

    excerpt: Excerpt
    folder: Path
    agent: DaemonProcess
    daemon: Rows
    log: Path
    slowest_s: float
    counted: dict[str, float]

    @property
    def times(self) -> list[int]:
        return [self.excerpt.time_ns(number) for number in range(len(self.excerpt.rows))]

    def detect(self, excerpt: Excerpt, name: str) -> tuple[Rows, list[dict[str, object]]]:
        """Scores and incidents of `edge-agent detect`, as a user calls it."""
        out = self.folder / f"{name}-scores.csv"
        file = excerpt.write(self.folder / f"{name}.csv")
        command = [sys.executable, "-m", "edge_agent", "detect", str(file)]
        command += ["--out", str(out), "-c", str(self.agent.path), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return of_table(out), json.loads(done.stdout)["incidents"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    if missing := [name for name in ("mosquitto", "coap-client-notls", "gcc") if shutil.which(name) is None]:
        pytest.fail(f"not installed: {', '.join(missing)}; `make test` installs them")
    folder = tmp_path_factory.mktemp("recordings")
    with ExitStack() as stack:
        yield run(folder, stack)


def run(folder: Path, stack: ExitStack) -> Played:
    broker = MosquittoProcess(folder).start()
    stack.callback(broker.stop)
    coap, coap_recorder = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    modbus = free_port()
    agent = DaemonProcess(folder, config(broker.port, coap, modbus, "agent"))
    agent.start()
    stack.callback(agent.kill)
    recorder = Recorder(folder, config(broker.port, coap_recorder, modbus, "recorder"))
    stack.callback(recorder.kill)
    motes = MqttMotes(broker.port, BY_MQTT)
    stack.callback(motes.close)
    nodes = CoapNodes((coap, coap_recorder), BY_COAP)
    plc = ModbusPlc(build_modbus_server(folder), modbus, BY_MODBUS, clients=2)
    stack.callback(plc.close)
    until(lambda: agent.connected("motes") and agent.connected("nodes"), "broker and CoAP server")
    until(lambda: recorder.connected("motes") and recorder.connected("nodes"), "the recorder")

    first_ns = (time.time_ns() // PERIOD_NS + 4) * PERIOD_NS
    sensors = (*BY_MQTT, *BY_COAP, *BY_MODBUS)
    excerpt = Excerpt(sensors, read_rows(RECORDING, sensors), first_ns, PERIOD_NS)

    def taken(source: str, readings: int) -> Callable[[], bool]:
        return lambda: agent.metric("edge_agent_readings_total", source=source) >= readings

    arrived = {motes: taken("motes", 4), nodes: taken("nodes", 2), plc: taken("plc", 2)}
    slowest_s = play(excerpt, (motes, nodes, plc), arrived)
    last = excerpt.time_ns(len(excerpt.rows) - 1)
    until(lambda: last_scored(agent) >= last, "the last row to be scored", LATENESS_S + 15)
    counted = {name: agent.metric(f"edge_agent_{name}_total") for name in COUNTED}
    assert agent.stop() == 0
    log = recorder.stop()
    return Played(excerpt, folder, agent, of_events(agent.events("scores")), log, slowest_s, counted)


def test_every_row_arrived_in_time_and_no_tick_was_missed(played: Played) -> None:
    assert played.slowest_s < LATENESS_S
    assert played.counted == dict.fromkeys(COUNTED, 0.0)


def test_the_daemon_gives_the_scores_of_detect(played: Played) -> None:
    detected, _ = played.detect(played.excerpt, "same")
    assert differences(played.daemon, detected, played.times) == []
    scored = [row for row in detected.values() if row.p_value is not None]
    assert len(scored) > 100, "the excerpt is long enough to leave the warm-up"
    assert all(len(row.sensors) == len(played.excerpt.sensors) for row in scored)


def test_the_daemon_opens_the_incidents_of_detect(played: Played) -> None:
    _, incidents = played.detect(played.excerpt, "same")
    last = played.times[-1]
    live = [event["body"] for event in played.agent.events("incident")]
    live = [incident for incident in live if nanoseconds(incident["opened"]) <= last]
    for kind in ("process", "data_quality"):
        assert opened(live, kind) == opened(incidents, kind)
    assert opened(live, "process"), "the recording holds a known anomaly"


def test_one_reading_that_differs_is_seen_in_the_scores(played: Played) -> None:
    rows = list(played.excerpt.rows)
    rows[200] = (rows[200][0] + 0.01, *rows[200][1:])
    detected, _ = played.detect(replace(played.excerpt, rows=tuple(rows)), "different")
    assert differences(played.daemon, detected, played.times[:200]) == []
    assert len(differences(played.daemon, detected, played.times[200:])) > 100


def test_what_was_recorded_is_replayed_with_the_same_scores(played: Played) -> None:
    options = load_config(played.agent.path)
    readings = ReadingLogReader(played.log)
    replay = Replay(load_model(None), pipeline_options(options), options)
    replayed = of_reports(replay.play(readings))
    assert readings.damaged == 0
    assert differences(played.daemon, replayed, played.times) == []


def test_the_replay_command_tells_the_same_incidents(played: Played) -> None:
    command = [sys.executable, "-m", "edge_agent", "replay", str(played.log), "-c", str(played.agent.path), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    bodies = [json.loads(line) for line in done.stdout.splitlines()]
    replayed = [body for body in bodies if "state" in body]
    live = [event["body"] for event in played.agent.events("incident")]
    assert opened(replayed, "process") == opened(live, "process")


class Recorder:
    """``edge-agent record`` as a process, a second gateway of the same plant."""

    def __init__(self, folder: Path, config: str) -> None:
        self.out = folder / "readings.jsonl"
        self._log = folder / "record.log"
        path = folder / "record.yaml"
        path.write_text(config)
        command = [sys.executable, "-m", "edge_agent", "-v", "record", "-c", str(path), "--out", str(self.out)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def connected(self, source: str) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return any(f"source.{source}" in line and "connected to" in line for line in self._log.read_text().splitlines())

    def stop(self) -> Path:
        """Ctrl-C; the log it wrote."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(15) == 0, self._log.read_text()
        return self.out

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def last_scored(agent: DaemonProcess) -> int:
    status = agent.status()
    last = status["tick"]["last"] if status is not None else None
    return 0 if last is None else nanoseconds(last)
