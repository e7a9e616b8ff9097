"""What goes wrong on gateways, done to a real daemon: it says so, loses nothing it accepted, and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, MosquittoProcess, free_port, until

pytestmark = pytest.mark.counterpart

Make = Callable[..., DaemonProcess]


def mqtt(port: int, extra: str = "") -> str:
    return f"""
tick: {{period: 100ms}}
sources:
  plant:
    type: mqtt
    port: {port}
    client_id: under-test
    session_expiry: 1h
    retry_max: 500ms
    subscriptions:
      - {{topic: "plant/{{sensor}}", qos: 1, payload: {{format: json, value: $.v, time: $.t}}}}
{extra}"""


def reading(value: object, at: float | None = None) -> bytes:
    return json.dumps({"v": value, "t": time.time() if at is None else at}).encode()


def value_of(agent: DaemonProcess, sensor: str) -> object:
    found = agent.get(f"/api/v1/sensors/{sensor}")
    return found.get("value") if isinstance(found, dict) else None


def test_a_broker_that_is_not_there_at_the_start_is_waited_for(broker: MosquittoProcess, daemon: Make) -> None:
    broker.stop()
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: "refused" in agent.status()["sources"]["plant"]["state"], "the state to say why")  # type: ignore[index]
    assert agent.get("/readyz")["ok"] is False
    broker.start()
    until(lambda: agent.connected("plant"), "the connection")
    broker.publish("plant/a", reading(1.5))
    until(lambda: value_of(agent, "a") == 1.5, "the reading")
    assert agent.stop() == 0


@pytest.mark.slow
def test_no_reading_is_lost_or_scored_twice_while_the_broker_is_gone(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: agent.connected("plant"), "the connection")
    sent = 0
    for _ in range(20):
        broker.publish("plant/a", reading(sent))
        sent += 1
    broker.stop()
    time.sleep(20.0)  # the outage itself: long enough for keep-alive, back-off and session to matter
    broker.start()
    for _ in range(20):
        broker.publish("plant/a", reading(sent))
        sent += 1
    until(lambda: value_of(agent, "a") == sent - 1, "the last reading")
    taken = agent.metric("edge_agent_readings_total", source="plant")
    repeated = agent.metric("edge_agent_readings_duplicate_total")
    assert taken - repeated == sent
    assert agent.stop() == 0


def test_hostile_payloads_are_counted_and_the_next_reading_is_taken(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: agent.connected("plant"), "the connection")
    hostile = [b" ", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"v": "hot"}', b'{"v": null}', os.urandom(500)]
    hostile.append(b'{"v": 1, "x": "' + b"y" * 10_000_000 + b'"}')
    for payload in hostile:
        broker.publish("plant/a", payload)
    broker.publish("plant/nan", b'{"v": 1e999}')
    broker.publish("plant/huge", reading(1e308))
    broker.publish("plant/a", reading(7.25))
    until(lambda: value_of(agent, "a") == 7.25, "the good reading")
    rejected = [
        line for line in str(agent.get("/metrics")).splitlines() if line.startswith("edge_agent_frames_rejected_total")
    ]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in rejected) >= len(hostile)
    assert value_of(agent, "huge") is None
    assert agent.stop() == 0


@pytest.mark.parametrize("offset_s", [-1_760_000_000, -3 * 365 * 86400, 365 * 86400])
def test_absurd_timestamps_do_not_hide_a_reading(broker: MosquittoProcess, daemon: Make, offset_s: int) -> None:
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: agent.connected("plant"), "the connection")
    broker.publish("plant/a", reading(3.0, time.time() + offset_s))
    until(lambda: value_of(agent, "a") == 3.0, "the reading")
    flags = agent.get("/api/v1/sensors/a")["quality"]
    assert flags == (["future"] if offset_s > 0 else ["past"])


def test_sigterm_in_the_middle_loses_no_acknowledged_reading(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: agent.connected("plant"), "the connection")
    for value in range(30):
        broker.publish("plant/a", reading(value))
    assert agent.stop() == 0
    values = [event["body"] for event in agent.events("scores")]
    assert values, "the last tick was scored and delivered"
    # What was not taken before the stop was not acknowledged either: the broker still has it for the next start.
    for value in range(30, 40):
        broker.publish("plant/a", reading(value))
    agent.start()
    until(lambda: value_of(agent, "a") == 39, "the last reading")
    assert agent.metric("edge_agent_readings_total", source="plant") == 10
    assert agent.stop() == 0


def test_a_second_sigterm_ends_a_stop_that_hangs(daemon: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        agent = daemon(
            f"""
agent: {{name: x, data_dir: ./data, stop_timeout: 60s}}
tick: {{period: 100ms}}
sources: {{plant: {{type: mqtt, port: {free_port()}, retry_max: 500ms, subscriptions: [{{topic: "a/{{sensor}}"}}]}}}}
sinks: {{hook: {{type: webhook, url: "http://127.0.0.1:{port}/", timeout: 50s, events: [scores]}}}}
"""
        ).start()
        until(lambda: (agent.status() or {"tick": {"count": 0}})["tick"]["count"] > 5, "some ticks")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert agent.process.poll() is None
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(8) == 1
        assert "sink hook" in agent.log()


def test_sighup_applies_what_changed_and_refuses_a_broken_file(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: agent.connected("plant"), "the connection")
    broker.publish("plant/a", reading(5.0))
    until(lambda: value_of(agent, "a") == 5.0, "the reading")
    assert agent.process is not None

    agent.write(mqtt(broker.port).replace("period: 100ms", "periode: 100ms"))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: agent.metric("edge_agent_config_reloads_total", outcome="refused") == 1, "the refusal")
    assert "tick.periode" in agent.log()
    assert agent.connected("plant")

    other = f'  other: {{type: mqtt, port: {broker.port}, subscriptions: [{{topic: "b/{{sensor}}"}}]}}'
    second = mqtt(broker.port, extra=other)
    agent.write(second + "\nsensors: {a: {unit: mm, max: 10}}\n")
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: "other" in agent.status()["sources"], "the new source")  # type: ignore[index]
    until(lambda: agent.connected("other"), "the new source to connect")
    broker.publish("plant/a", reading(50.0))
    until(lambda: agent.get("/api/v1/sensors/a")["quality"] == ["out_of_range"], "the new limit")
    assert agent.get("/api/v1/sensors/a")["unit"] == "mm"
    assert agent.stop() == 0


def test_a_port_that_is_taken_is_named(daemon: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent = daemon(mqtt(free_port(), extra=f'\napi: {{listen: "127.0.0.1:{port}"}}')).start(ready=False)
        assert agent.process is not None
        assert agent.process.wait(15) != 0
    assert f"127.0.0.1:{port}" in agent.log()
    assert "Traceback" not in agent.log()


def test_a_second_agent_on_the_same_data_is_refused_and_a_kill_leaves_no_lock(daemon: Make, tmp_path: Path) -> None:
    shared = mqtt(free_port(), f"agent: {{name: x, data_dir: {tmp_path}/data}}")
    first = daemon(shared).start()
    second = daemon(shared).start(ready=False)
    until(second.exited, "the second to give up")
    assert f"data is in use by the agent that is process {first.process.pid}, expected" in second.log()  # type: ignore[union-attr]
    assert first.status() is not None
    first.kill()
    second.start()
    assert second.stop() == 0


def test_a_token_that_cannot_be_kept_is_no_reason_not_to_watch(daemon: Make, tmp_path: Path) -> None:
    (tmp_path / "data" / "api-token").mkdir(parents=True)
    agent = daemon(mqtt(free_port(), f"agent: {{name: x, data_dir: {tmp_path}/data}}")).start()
    assert "api-token cannot be read: Is a directory; until the next start" in agent.log()
    assert agent.stop() == 0


def test_a_damaged_history_is_put_aside_and_the_agent_runs(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port))
    data = agent.folder / "data"
    data.mkdir()
    (data / "history.db").write_bytes(b"not a database at all" * 100)
    (data / "learned.npz").write_bytes(b"\x00" * 1000)
    agent.start()
    assert agent.get("/api/v1/incidents") in ([], {"incidents": []})
    assert list(data.glob("history.db*damaged*"))
    assert agent.stop() == 0
    assert sqlite3.connect(data / "history.db").execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_corrupt_model_at_the_start_is_told_and_the_next_best_is_used(daemon: Make, tmp_path: Path) -> None:
    from edge_agent.bundle.store import UNIVERSAL

    bundle = tmp_path / "bundle"
    shutil.copytree(UNIVERSAL, bundle)
    raw = bytearray((bundle / "model.onnx").read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    (bundle / "model.onnx").write_bytes(raw)
    agent = daemon(mqtt(free_port(), extra=f"\nmodel: {{bundle: {bundle}}}")).start()
    status = agent.status()
    assert status is not None
    assert status["model"]["kind"] == "universal"
    assert "sha256" in agent.log()
    assert agent.stop() == 0


def test_zero_sensors_is_a_state_not_a_fault(daemon: Make) -> None:
    agent = daemon(mqtt(free_port())).start()
    until(lambda: agent.status()["tick"]["count"] > 10, "ticks without sensors")  # type: ignore[index]
    status = agent.status()
    assert status is not None
    assert status["sensors"]["known"] == 0
    assert agent.get("/livez")["ok"] is True
    assert agent.stop() == 0


def test_two_sources_that_claim_one_sensor(broker: MosquittoProcess, daemon: Make) -> None:
    payload = 'topic: "plant/{sensor}", payload: {value: $.v}'
    twin = f"  twin: {{type: mqtt, port: {broker.port}, subscriptions: [{{{payload}}}]}}"
    agent = daemon(mqtt(broker.port, extra=twin)).start()
    until(lambda: agent.connected("plant") and agent.connected("twin"), "both connections")
    for value in range(5):
        broker.publish("plant/a", reading(value))
    until(lambda: value_of(agent, "a") == 4, "the last reading")
    claimed = [agent.metric("edge_agent_readings_claimed_total", source=name) for name in ("plant", "twin")]
    until(lambda: sum(agent.metric("edge_agent_readings_claimed_total", source=n) for n in ("plant", "twin")) == 5, "5")
    assert min(claimed) == 0


def test_a_full_disk_does_not_stop_the_scoring(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port, extra="\nsinks: {full: {type: file, path: /dev/full, events: [scores, status]}}"))
    agent.start()
    until(lambda: agent.connected("plant"), "the connection")
    until(lambda: agent.metric("edge_agent_events_retried_total", sink="full") > 0, "a delivery that failed")
    broker.publish("plant/a", reading(2.0))
    until(lambda: value_of(agent, "a") == 2.0, "the reading")
    assert agent.metric("edge_agent_sink_up", sink="full") == 0


def test_the_learned_state_survives_a_restart(broker: MosquittoProcess, daemon: Make) -> None:
    agent = daemon(mqtt(broker.port)).start()
    until(lambda: agent.connected("plant"), "the connection")
    for sensor in "abc":
        broker.publish(f"plant/{sensor}", reading(1.0))
    until(lambda: agent.status()["sensors"]["known"] == 3, "three sensors")  # type: ignore[index]
    assert agent.stop() == 0
    agent.start()
    until(lambda: agent.status()["sensors"]["known"] == 3, "the sensors known from before")  # type: ignore[index]
    assert agent.stop() == 0
