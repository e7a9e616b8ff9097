from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from daemon_process import MosquittoProcess
from publisher_rig import PASSPHRASE, Client

from edge_agent.cli.app import cli
from edge_agent.ota.report import Report
from edge_agent.ota.state import Outcome, Phase
from edge_agent.ota.state import Result as Ended

Bundles = dict[str, Path]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_AGENT_OTA_PASSPHRASE", PASSPHRASE)
    monkeypatch.delenv("EDGE_AGENT_OTA_REPO", raising=False)
    return tmp_path


def run(*args: str | Path, code: int = 0) -> Result:
    found = CliRunner().invoke(cli, ["ota", "repo", *map(str, args)], prog_name="edge-agent")
    assert found.exit_code == code, found.output
    return found


def told(*args: str | Path) -> dict[str, Any]:
    found = run(*args, "-d", "fleet", "--json")
    plain: dict[str, Any] = json.loads(found.stdout)
    return plain


def test_every_command_does_what_it_says(here: Path, bundles: Bundles) -> None:
    assert "For gateways, once (option ota.root):  fleet/repo/metadata/1.root.json" in run("init", "fleet").output
    client = Client(here / "client", here / "fleet" / "repo")
    first = told(
        "publish", bundles["1.0.0"], "--activate", "now", "--trial", "60s", "--trial-ticks", "5", "--shadow", "0s"
    )
    assert (first["published"], first["release"], first["rings"]) == (True, "tiny-1.0.0", {"canary": 1})
    ring = client.ring("canary")
    assert ring is not None
    assert (ring.activate.mode, ring.trial.seconds, ring.trial.ticks, ring.shadow.ticks) == ("now", 60, 5, 0)
    assert told("promote", "tiny-1.0.0", "canary", "early")["rings"] == {"early": 2}
    assert told("activate", "early", "2027-01-31T06:00:00Z", "--spread", "1m")["mode"] == "at"
    Path("limits.yaml").write_text("decision: {budget: 1 per week}\n")
    assert told("publish", "limits.yaml", "--release", "quiet")["rings"] == {"canary": 4}
    assert told("halt", "early", "--why", "smoke")["why"] == "smoke"
    assert told("publish", bundles["1.1.0"])["rings"] == {"canary": 6}
    assert told("rollback", "canary", "tiny-1.0.0")["instead_of"] == "tiny-1.1.0"
    assert told("add-key", "root-4", "--role", "root")["keys"] == 4
    assert told("rotate", "timestamp", "online-1", "online-2")["new"] == "online-2"
    assert told("refresh", "config")["renewed"] == ["config", "timestamp"]
    assert told("sideload", "stick.tar", "--ring", "canary", "--days", "7")["out"] == "stick.tar"
    assert told("prune", "--keep", "0")["releases"] == ["quiet", "tiny-1.1.0"]
    status = told("status")
    assert status["rings"]["canary"]["release"] == "tiny-1.0.0"
    assert (status["warnings"], status["audit_entries"]) == ([], 13)
    assert "Audit log: 13 entries, whole." in run("status", "-d", "fleet").output
    assert client.ring("canary") is not None
    everything = b"".join(path.read_bytes() for path in here.rglob("*") if path.is_file())
    assert PASSPHRASE.encode() not in everything


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ("status", "-d", "elsewhere"),
            2,
            "elsewhere/repo.yaml: is missing; make a repository with `edge-agent ota repo",
        ),
        (("init", "fleet"), 1, "fleet: is not empty, expected a new folder; nothing was changed"),
        (("halt", "moon", "-d", "fleet"), 2, "got ring 'moon', expected one of canary, early, stable"),
        (
            ("halt", "canary", "-d", "fleet"),
            1,
            "canary: has no release yet; publish one with `edge-agent ota repo publish`",
        ),
        (("publish", "nowhere", "-d", "fleet"), 1, "bundle nowhere: No such file or directory"),
        (("activate", "canary", "soon", "-d", "fleet"), 2, "expected stage, now or 2027-01-31T06:00:00Z"),
        (("activate", "canary", "now", "--spread", "5", "-d", "fleet"), 2, "spread: got '5', expected a duration"),
        (("publish", "x", "--min-agent", "new", "-d", "fleet"), 1, "bundle x"),
        (("auto", "--reports", "none.jsonl", "-d", "fleet"), 2, "none.jsonl: reports cannot be read"),
        (
            ("auto", "--reports", "uplink:broker", "-d", "fleet"),
            2,
            "uplinks: got 'broker', expected one, but there is none",
        ),
        (("auto", "--reports", "x", "--every", "1", "-d", "fleet"), 2, "every: got '1', expected a duration"),
        (("refresh", "--passphrase-file", "none", "-d", "fleet"), 2, "passphrase: none: cannot be read"),
        (("sign", "-d", "fleet"), 1, "nothing waits for signatures"),
    ],
)
def test_mistake_is_one_clear_sentence(args: tuple[str, ...], code: int, message: str) -> None:
    run("init", "fleet")
    found = run(*args, code=code)
    assert message in found.stderr
    assert "Traceback" not in found.output


def test_wrong_settings_are_told_with_their_place() -> None:
    run("init", "fleet")
    Path("fleet/repo.yaml").write_text("rings: {canary: {soak: 5}}\n")
    assert "rings.canary.soak: Value error, got 5" in run("status", "-d", "fleet", code=2).stderr
    Path("fleet/repo.yaml").write_text("uplinks: {b: {type: mqqt}}\n")
    found = run("auto", "--reports", "uplinks", "-d", "fleet", code=2).stderr
    assert "fleet/repo.yaml: uplinks.b.type: " in found
    assert "did you mean 'mqtt'" in found


@pytest.mark.parametrize("way", ["file", "descriptor", "nothing"])
def test_passphrase_comes_from_a_file_or_a_descriptor_else_nobody_waits_for_it(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "fleet")
    monkeypatch.delenv("EDGE_AGENT_OTA_PASSPHRASE")
    Path("secret").write_text(f"{PASSPHRASE}\n")
    if way == "nothing":
        found = run("refresh", "-d", "fleet", code=2)
        assert "passphrase of online-1: nobody can be asked for it here; set EDGE_AGENT_OTA_PASSPHRASE" in found.stderr
        return
    descriptor = os.open("secret", os.O_RDONLY)
    given = ("--passphrase-file", "secret") if way == "file" else ("--passphrase-fd", str(descriptor))
    run("refresh", "-d", "fleet", *given)
    os.close(descriptor)


def test_configuration_that_gateways_may_refuse_is_published_with_a_warning() -> None:
    run("init", "fleet")
    Path("doors.yaml").write_text("api: {listen: 0.0.0.0:80}\n")
    found = run("publish", "doors.yaml", "-d", "fleet")
    assert "warning: gateways may refuse it: " in found.stderr
    assert "api" in found.stderr
    Path("nothing.yaml").write_text("{}\n")
    assert "warning" not in run("publish", "nothing.yaml", "-d", "fleet").output


def test_missing_signatures_are_asked_for_and_given(bundles: Bundles) -> None:
    run("init", "fleet")
    run("add-key", "second", "--role", "models-default", "--threshold", "2", "--into", "stick", "-d", "fleet")
    waiting = run("publish", bundles["1.0.0"], "-d", "fleet")
    assert "models-default: 1 more signature needed: `edge-agent ota repo sign` by who has a key" in waiting.output
    assert "waits for signatures since" in run("status", "-d", "fleet").stderr
    assert "tiny-1.0.0" in run("sign", "--keys", "stick", "-d", "fleet").output


def report(gateway: str, result: Ended) -> bytes:
    now = "2027-01-01T00:00:00Z"
    outcome = Outcome.model_validate({"release": "tiny-1.0.0", "counter": 1, "result": result, "time": now})
    plain = {"schema": 1, "fleet": "default", "ring": "canary", "gateway": gateway, "serial": 1, "time": now}
    return Report.model_validate({**plain, "agent": "1", "phase": Phase.IDLE, "outcome": outcome}).to_json()


def test_auto_acts_on_reports_from_files(bundles: Bundles) -> None:
    run("init", "fleet")
    Path("fleet/repo.yaml").write_text("rings: {canary: {gateways: 2, soak: 0s}, stable: {}}\n")
    told("publish", bundles["1.0.0"], "--activate", "now")
    lines = [report(name, Ended.COMMITTED) for name in ("a", "b")]
    Path("reports.jsonl").write_bytes(b"\n".join([*lines, b"no report"]) + b"\n")
    dry = run("auto", "--reports", "reports.jsonl", "--dry-run", "-d", "fleet")
    assert "promote to stable" in dry.output
    assert "1 of the reports cannot be read" in dry.stderr
    assert told("status")["rings"]["stable"] is None
    (step,) = json.loads(run("auto", "--reports", "reports.jsonl", "-d", "fleet", "--json").stdout)
    assert (step["decision"], step["to"], step["committed"]) == ("promote", "stable", 2)
    assert told("status")["rings"]["stable"]["release"] == "tiny-1.0.0"


def test_gateways_that_cannot_be_told_are_a_warning(bundles: Bundles) -> None:
    run("init", "fleet")
    with Path("fleet/repo.yaml").open("a") as file:
        file.write("uplinks: {broker: {type: mqtt, host: 127.0.0.1, port: 1}}\n")
    done = run("publish", bundles["1.0.0"], "-d", "fleet")
    assert "warning: gateways were not told, they will see it when they look next" in done.stderr
    assert told("status")["rings"]["canary"]["release"] == "tiny-1.0.0"


@pytest.mark.counterpart
def test_gateways_are_told_and_their_reports_are_read_by_a_broker(here: Path, bundles: Bundles) -> None:
    broker = MosquittoProcess(here).start()
    try:
        run("init", "fleet")
        with Path("fleet/repo.yaml").open("a") as file:
            file.write(f"uplinks: {{broker: {{type: mqtt, host: 127.0.0.1, port: {broker.port}}}}}\n")
        done = told("publish", bundles["1.0.0"], "--activate", "now")
        assert done["nudge_problems"] == []
        topic = "edge-agent/v1/default/canary/nudge"
        listen = ["mosquitto_sub", "-p", str(broker.port), "-t", topic, "-C", "1", "-W", "10"]
        nudge = subprocess.run(listen, capture_output=True, check=True, timeout=20)
        assert json.loads(nudge.stdout) == {"counter": 1, "spread_s": 20}
        for name in ("a", "b", "c"):
            keep = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-s"]
            where = f"edge-agent/v1/default/{name}/ota/status"
            raw = report(name, Ended.ROLLED_BACK)
            subprocess.run([*keep, "-t", where], input=raw, check=True, timeout=20)
        (step,) = json.loads(run("auto", "--reports", "uplink:broker", "-d", "fleet", "--json").stdout)
        assert (step["decision"], step["failed"]) == ("halt", 3)
        nudge = subprocess.run(listen, capture_output=True, check=True, timeout=20)
        assert json.loads(nudge.stdout)["counter"] == 2
        assert told("status")["rings"]["canary"]["halt"] is True
    finally:
        broker.stop()


def test_serve_answers_on_loopback(here: Path) -> None:
    run("init", "fleet")
    command = [sys.executable, "-m", "edge_agent", "ota", "serve", "fleet", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = process.stderr.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/metadata/timestamp.json", timeout=10) as answer:
            assert answer.read() == Path("fleet/repo/metadata/timestamp.json").read_bytes()
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_help_of_the_agent_loads_no_library_of_the_publisher() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from edge_agent.cli.app import cli\n"
        "for args in ((), ('ota',), ('ota', 'repo'), ('ota', 'repo', 'publish'), ('ota', 'serve')):\n"
        "    assert CliRunner().invoke(cli, [*args, '--help']).exit_code == 0\n"
        "print([name for name in ('tuf', 'securesystemslib', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


SOFTHSM = next(iter(Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")), Path("/usr/lib/softhsm/libsofthsm2.so"))
MAKE_KEY = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
token = pkcs11.lib(sys.argv[1]).get_token(token_label="fleet")
with token.open(rw=True, user_pin="4321") as session:
    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    parameters.generate_keypair(store=True, id=b"\\x02", label="root")
"""


@pytest.mark.counterpart
def test_key_on_a_pkcs11_token_signs(here: Path, bundles: Bundles) -> None:
    """With SoftHSM 2; each command in a process of its own, since the token's module is loaded once in a process."""
    assert SOFTHSM.exists(), "softhsm2 is not installed; `make test` installs it"
    (here / "tokens").mkdir()
    Path("softhsm2.conf").write_text(f"directories.tokendir = {here}/tokens\nobjectstore.backend = file\n")
    environ = {**os.environ, "SOFTHSM2_CONF": f"{here}/softhsm2.conf", "PYKCS11LIB": str(SOFTHSM)}

    def call(*command: str, pin: str = "4321", code: int = 0) -> str:
        environ["EDGE_AGENT_OTA_PIN"] = pin
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def repo(*args: str, **how: Any) -> str:
        return call(sys.executable, "-m", "edge_agent", "ota", "repo", *args, "-d", "fleet", **how)

    call("softhsm2-util", "--init-token", "--free", "--label", "fleet", "--pin", "4321", "--so-pin", "9876")
    call(sys.executable, "-c", MAKE_KEY, str(SOFTHSM))
    run("init", "fleet")
    client = Client(here / "client", here / "fleet" / "repo")
    repo("add-key", "token-1", "--role", "rings", "--uri", "hsm:2?label=fleet")
    (here / "fleet" / "keys" / "rings-1.pem").unlink()
    wrong = repo("publish", str(bundles["1.0.0"]), pin="0000", code=1)
    assert "token-1" in wrong
    assert "0000" not in wrong
    repo("publish", str(bundles["1.0.0"]))
    ring = client.ring("canary")
    assert ring is not None
    assert ring.release == "tiny-1.0.0"
