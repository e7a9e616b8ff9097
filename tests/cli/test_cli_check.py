from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_good_file_is_exit_0(run: Run, config: Path) -> None:
    result = run("check", config)
    assert (result.exit_code, result.stdout) == (0, f"{config}: ok, 1 source, 1 sink\n")


def test_every_mistake_is_printed_and_exit_is_2(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + "tick: {period: 5}\nmodle: {}\n")
    result = run("check", config)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{config}:6: tick.period: got 5, expected a duration with its unit, such as 250ms, 5s, 2m, 1h or 7d",
        f"{config}:7: modle: is not a section; did you mean 'model'?",
    ]


def test_json_holds_the_mistakes(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + "modle: {}\n")
    result = run("check", config, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], len(found["problems"])) == (2, False, 1)


def test_file_that_is_not_there_is_exit_2(run: Run, tmp_path: Path) -> None:
    result = run("check", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "cannot be read: No such file or directory" in result.stderr


def test_configuration_without_sinks_gets_a_note(run: Run, config: Path) -> None:
    config.write_text(
        "".join(line for line in config.read_text().splitlines(True) if "log" not in line and "sinks" not in line)
    )
    result = run("check", config)
    assert result.exit_code == 0
    assert "note: sinks: there are none" in result.stderr


def test_bundle_that_is_not_there_gets_a_note(run: Run, config: Path) -> None:
    config.write_text(config.read_text() + "\nmodel: {bundle: models/press.tar}\n")
    result = run("check", config)
    assert result.exit_code == 0
    assert f"note: model.bundle: bundle {config.parent / 'models/press.tar'}" in result.stderr
    assert "would run with the universal model" in result.stderr


def test_connect_says_what_cannot_be_reached(run: Run, config: Path) -> None:
    result = run("check", config, "--connect", "--timeout", "0.5", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [item["component"] for item in found["reached"]] == ["sources.plc", "sinks.log"]
    assert found["reached"][0]["problem"]
    assert found["reached"][1]["problem"] is None


def test_connect_does_not_end_with_ok_when_something_is_not_reached(run: Run, config: Path) -> None:
    result = run("check", config, "--connect", "--timeout", "0.5")
    assert (result.exit_code, result.stdout.splitlines()) == (
        1,
        ["sinks.log: reached", f"{config}: no mistakes, 1 source, 1 sink; not reached: sources.plc"],
    )


def test_connect_does_not_say_reached_of_a_sink_that_only_prepares(run: Run, config: Path) -> None:
    sink = "  base: {type: influxdb, url: 'http://127.0.0.1:9', token: t, org: o, bucket: b}\n"
    config.write_text(config.read_text() + sink)
    result = run("check", config, "--connect", "--timeout", "0.5")
    assert "sinks.base: usable here; it meets its far side at the first event" in result.stdout


def test_connect_gives_up_at_the_deadline(run: Run, config: Path, silent_server: int) -> None:
    config.write_text(config.read_text().replace("port: 9", f"port: {silent_server}, timeout: 30s"))
    result = run("check", config, "--connect", "--timeout", "0.3")
    assert result.exit_code in (0, 1)  # a port that accepts is reached for some protocols; it must not hang


# with a real broker


def mosquitto_sub(port: int, *more: str) -> bytes:
    """Run as the client of the daemon, whose session the broker keeps."""
    command = ["mosquitto_sub", "-p", str(port), "-i", "gateway", "-c", "-q", "1", "-t", "plant/#", "-W", "5", *more]
    return subprocess.run(command, capture_output=True, check=False, timeout=20).stdout


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    command = ["mosquitto", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield port
        finally:
            broker.terminate()


@pytest.mark.counterpart
def test_connect_leaves_the_messages_to_the_daemon(run: Run, config: Path, mosquitto: int) -> None:
    mosquitto_sub(mosquitto, "-E")
    publish = ["mosquitto_pub", "-p", str(mosquitto), "-q", "1", "-t", "plant/level", "-m", "21.5"]
    subprocess.run(publish, check=True)
    config.write_text(
        f"sources: {{bus: {{type: mqtt, host: 127.0.0.1, port: {mosquitto}, client_id: gateway, session_expiry: 1d, "
        "subscriptions: [{topic: 'plant/{sensor}', name: '{sensor}'}]}}\n"
        f"sinks: {{bus: {{type: mqtt, host: 127.0.0.1, port: {mosquitto}, client_id: gateway-out}}}}\n"
    )
    result = run("check", config, "--connect", "--json")
    assert result.exit_code == 0, result.output
    assert [item["problem"] for item in json.loads(result.stdout)["reached"]] == [None, None]
    assert mosquitto_sub(mosquitto, "-C", "1") == b"21.5\n"


# updates


def with_updates(config: Path, repository: str, uplinks: str = "") -> None:
    (config.parent / "agent.yaml").write_text(
        config.read_text().replace("agent: {", "agent: {name: gateway-7, ")
        + f"ota: {{repository: '{repository}', root: root.json, fleet: plant-4}}\n{uplinks}"
    )


@pytest.fixture
def repository(config: Path) -> Path:
    """A repository with the two files that are looked at, and the gateway's copy of the root."""
    metadata = config.parent / "repository" / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "timestamp.json").write_text('{"signed": {"_type": "timestamp"}, "signatures": []}')
    root = {"signed": {"_type": "root", "version": 1, "expires": "2031-01-01T00:00:00Z"}, "signatures": []}
    (config.parent / "root.json").write_text(json.dumps(root))
    return metadata.parent


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"{{{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is not root metadata"),
        (b'{"signed": {"_type": "targets", "version": 1, "expires": "x"}}', "is not root metadata"),
        (b'{"signed": {"_type": "root"}}', "is not root metadata"),
        (b" " * 600_000, "is not root metadata"),
        (b"[" * 100_000, "is not"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_unusable_root_gets_a_note(run: Run, config: Path, content: bytes | None, message: str) -> None:
    with_updates(config, "https://updates.example.com")
    if content is not None:
        (config.parent / "root.json").write_bytes(content)
    result = run("check", config)
    assert result.exit_code == 0
    assert f"note: ota.root: {config.parent / 'root.json'} " in result.stderr
    assert message in result.stderr
    assert "would run without updates" in result.stderr


def test_connect_reaches_the_repository(run: Run, config: Path, repository: Path) -> None:
    with_updates(config, repository.as_uri())
    found = json.loads(run("check", config, "--connect", "--timeout", "0.5", "--json").stdout)
    assert found["reached"][-1] == {"component": "ota.repository", "problem": None, "tried": True}


@pytest.mark.parametrize(
    ("timestamp", "message"),
    [
        (None, "metadata/timestamp.json cannot be read: No such file or directory"),
        ("hello", "timestamp.json is not JSON"),
        ("{}", "timestamp.json is not timestamp metadata"),
    ],
)
def test_connect_says_what_is_wrong_with_the_repository(
    run: Run, config: Path, repository: Path, timestamp: str | None, message: str
) -> None:
    path = repository / "metadata" / "timestamp.json"
    path.unlink()
    if timestamp is not None:
        path.write_text(timestamp)
    with_updates(config, repository.as_uri())
    result = run("check", config, "--connect", "--timeout", "0.5")
    assert result.exit_code == 1
    assert f"ota.repository: {repository.as_uri()}: {message}" in result.stderr


def test_connect_to_a_silent_or_absent_repository_ends(
    run: Run, config: Path, repository: Path, silent_server: int
) -> None:
    with_updates(config, f"http://127.0.0.1:{silent_server}")
    assert "not reached within 0.3 s" in run("check", config, "--connect", "--timeout", "0.3").stderr
    (repository.parent / "agent.yaml").write_text(config.read_text().replace(str(silent_server), "9"))
    assert "ota.repository: http://127.0.0.1:9: cannot be reached" in run("check", config, "--connect").stderr


@pytest.mark.counterpart
def test_connect_reaches_an_uplink_without_disturbing_the_daemon(
    run: Run, config: Path, repository: Path, mosquitto: int
) -> None:
    uplinks = f"uplinks: {{bus: {{type: mqtt, host: 127.0.0.1, port: {mosquitto}}}, gone: {{type: mqtt, port: 9}}}}\n"
    with_updates(config, repository.as_uri(), uplinks)
    session = [
        "stdbuf",
        "-oL",
        "mosquitto_sub",
        "-p",
        str(mosquitto),
        "-i",
        "edge-agent:plant-4:gateway-7",
        "-c",
        "-q",
        "1",
    ]
    daemon = subprocess.Popen([*session, "-t", "x", "-d"], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    while b"SUBACK" not in daemon.stdout.readline():
        pass
    found = json.loads(run("check", config, "--connect", "--timeout", "2", "--json").stdout)
    by_name = {item["component"]: item["problem"] for item in found["reached"]}
    assert by_name["uplinks.bus"] is None
    assert "cannot reach the broker" in by_name["uplinks.gone"]
    time.sleep(0.1)
    assert daemon.poll() is None
    daemon.terminate()
    assert b"Client edge-agent:plant-4:gateway-7 sending CONNECT" not in daemon.communicate(timeout=10)[0]
