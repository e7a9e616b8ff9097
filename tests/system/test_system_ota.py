"""Updates over the air with a real daemon, broker, publisher and web server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, MosquittoProcess, until
from ota_rig import (
    TOKENS,
    Publisher,
    bundle_of,
    client,
    config,
    first_bundle,
    not_finite_at_minus_2000,
    ota,
    plant,
    post,
    put,
    until_outcome,
    until_phase,
)

from edge_agent.ota.ring import Shadow, Trial

pytestmark = [pytest.mark.counterpart, pytest.mark.slow]

Make = Callable[..., DaemonProcess]
LONG = Trial(seconds=600, ticks=20)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    found = Publisher(tmp_path / "publisher")
    yield found
    found.stop()


def command(agent: DaemonProcess, *words: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "edge_agent", "ota", words[0], "-c", str(agent.path), *words[1:]]
    return subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False)


def told(agent: DaemonProcess) -> list[str]:
    found = [event["body"]["what"] for event in agent.events("status")]
    return [what for what in found if what.startswith("update_")]


def test_a_release_is_looked_for_tried_and_stays(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    agent = daemon(config(broker.port, publisher, first_bundle(tmp_path / "first"))).start()
    with plant(broker.port):
        until(lambda: agent.metric("edge_agent_ticks_total") > 40, "ticks")
        new = bundle_of("2.0.0")
        publisher.publish(new, release="r2", shadow=Shadow(seconds=1, ticks=20))
        client(agent).ota_check()
        found = until_outcome(agent, "r2")
        assert (found["outcome"]["result"], found["in_force"]["model"]) == ("committed", new.sha256)
        assert found["comparison"]["ticks"] >= 20
        assert found["comparison"]["failures"] == 0
        until(lambda: "update_committed" in told(agent), "the event")
        assert agent.metric("edge_agent_ticks_missed_total") == 0
        assert agent.metric("edge_agent_model_swaps_total", outcome="updated") == 1
        expected = ["update_shadow", "update_shadow_result", "update_trial", "update_committed"]
        assert [name for name in told(agent) if name in expected] == expected
        said = command(agent, "status")
        assert "Last release: r2, committed" in said.stdout
        assert "In use: tiny 2.0.0" in said.stdout
        assert "and both find the same ticks unusual" in said.stdout
        assert json.loads(command(agent, "status", "--json").stdout)["in_force"]["model"] == new.sha256
        assert agent.stop() == 0
        assert command(agent, "status").returncode == 3
        assert "commit" in command(agent, "history").stdout
        assert command(agent, "verify-audit", "--head", found["audit_head"]).returncode == 0
        agent.start()
        assert agent.get("/api/v1/model")["sha256"] == new.sha256
        client(agent).ota_rollback()
        until(lambda: agent.get("/api/v1/model")["version"] == "1.0.0", "the model before")
    assert agent.stop() == 0


def test_a_model_that_fails_on_trial_is_taken_back_and_not_tried_again(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    agent = daemon(config(broker.port, publisher, first_bundle(tmp_path / "first"))).start()
    with plant(broker.port) as forced:
        until(lambda: agent.metric("edge_agent_ticks_total") > 20, "ticks")
        bad = bundle_of("3.0.0", not_finite_at_minus_2000)
        publisher.publish(bad, release="r3", trial=LONG)
        client(agent).ota_check()
        until_phase(agent, "trial")
        forced["a"] = -2000.0
        found = until_outcome(agent, "r3")
        del forced["a"]
        assert (found["outcome"]["result"], found["outcome"]["reason"]) == ("rolled_back", "errors")
        assert agent.get("/api/v1/model")["version"] == "1.0.0"
        assert {"sha256": bad.sha256, "reason": "errors"} in found["denied"]
        assert agent.metric("edge_agent_ota_rollbacks_total", reason="errors") == 1
        client(agent).ota_check()
        assert ota(agent)["phase"] == "idle"
    assert agent.stop() == 0


def test_a_process_that_keeps_dying_on_trial_goes_back_by_itself(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    agent = daemon(config(broker.port, publisher, first_bundle(tmp_path / "first"))).start()
    with plant(broker.port):
        publisher.publish(bundle_of("2.0.0"), release="r2", trial=LONG)
        client(agent).ota_check()
        until_phase(agent, "trial")
        for starts in (1, 2):
            agent.kill()
            agent.start()
            assert ota(agent)["phase"] == "trial"
            assert ota(agent)["release"]["starts"] == starts
        agent.kill()
        agent.start()
        found = until_outcome(agent, "r2")
        assert (found["outcome"]["result"], found["outcome"]["reason"]) == ("rolled_back", "crashes")
        assert agent.get("/api/v1/model")["version"] == "1.0.0"
        until(lambda: "update_rolled_back" in told(agent), "the event")
    assert agent.stop() == 0


DIES = """
import os, signal
from edge_agent.inference.onnx import OnnxDetector
load = OnnxDetector.__init__
def dies(self, bundle):
    if bundle.manifest.version == "6.6.6" and os.path.exists({flag!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    load(self, bundle)
OnnxDetector.__init__ = dies
"""


def test_a_model_that_kills_the_process_while_it_is_loaded_is_taken_back_after_three_starts(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    flag, site = tmp_path / "deadly", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DIES.format(flag=str(flag)))
    agent = daemon(config(broker.port, publisher, first_bundle(tmp_path / "first")), environ={"PYTHONPATH": str(site)})
    agent.start()
    with plant(broker.port):
        publisher.publish(bundle_of("6.6.6"), release="r6", trial=LONG)
        client(agent).ota_check()
        until_phase(agent, "trial")
        flag.touch()
        agent.kill()
        died = 0
        while True:
            agent.start(ready=False)
            until(lambda: agent.exited() or agent.status() is not None, "the API to answer, or the end")
            if not agent.exited():
                break
            died += 1
            assert died <= 2
        found = until_outcome(agent, "r6")
        assert (died, found["outcome"]["reason"]) == (2, "crashes")
        assert agent.get("/api/v1/model")["version"] == "1.0.0"
    assert agent.stop() == 0


def test_an_operator_who_swaps_the_model_ends_the_trial(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    agent = daemon(config(broker.port, publisher, first_bundle(tmp_path / "first"))).start()
    with plant(broker.port):
        publisher.publish(bundle_of("2.0.0"), release="r2", trial=LONG)
        client(agent).ota_check()
        until_phase(agent, "trial")
        own = bundle_of("9.0.0")
        client(agent).swap_model(put(own, tmp_path / "own"))
        found = until_outcome(agent, "r2")
        assert (found["outcome"]["result"], found["outcome"]["reason"]) == ("halted", "operator")
        assert found["in_force"]["model"] == own.sha256
        assert found["denied"] == []
    assert agent.stop() == 0


def test_forged_tokens_cost_nothing_and_a_token_opens_what_it_is_for(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    tokens = (
        f"{{check: {{token: {TOKENS['check']}, scopes: ['ota:check']}}, "
        f"load: {{token: {TOKENS['load']}, scopes: ['ota:sideload']}}}}"
    )
    agent = daemon("")
    agent.write(
        config(
            broker.port,
            publisher,
            first_bundle(tmp_path / "first"),
            f'api: {{listen: "127.0.0.1:{agent.api}", tokens: {tokens}}}',
        )
    )
    agent.start()
    for forged in (None, "", "guessed-token-of-nobody", TOKENS["check"] + "x") * 50:
        assert post(agent, "/api/v1/ota/check", forged)[0] == 401
    assert agent.metric("edge_agent_ota_checks_total") == 0
    assert post(agent, "/api/v1/ota/rollback", TOKENS["check"])[0] == 403
    assert post(agent, "/api/v1/ota/check", TOKENS["load"])[0] == 403
    status, _ = post(agent, "/api/v1/ota/check", TOKENS["check"])
    assert status == 200
    assert agent.metric("edge_agent_ota_checks_total") == 1
    assert agent.log().count("refused: wrong or no token") == 1
    assert TOKENS["check"] not in agent.log()
    assert agent.stop() == 0


def test_a_stick_brings_a_release_to_a_gateway_without_network(
    broker: MosquittoProcess, daemon: Make, publisher: Publisher, tmp_path: Path
) -> None:
    text = config(broker.port, publisher, first_bundle(tmp_path / "first")).replace(
        f"  repository: {publisher.url}\n", ""
    )
    new = bundle_of("2.0.0")
    publisher.publish(new, release="r2")
    publisher.repository.sideload(tmp_path / "stick", "stable")
    agent = daemon(text).start()
    with plant(broker.port):
        refused = command(agent, "check")
        assert (refused.returncode, "sideload works" in refused.stderr) == (4, True)
        empty = tmp_path / "empty"
        empty.mkdir()
        nothing = command(agent, "sideload", str(empty))
        assert nothing.returncode == 4, nothing.stderr
        done = command(agent, "sideload", str(tmp_path / "stick"))
        assert done.returncode == 0, done.stderr
        found = until_outcome(agent, "r2")
        assert (found["outcome"]["result"], found["in_force"]["model"]) == ("committed", new.sha256)
    assert agent.stop() == 0
