"""Dockerfile and docker-compose.yml. That they work is shown by deploy/prove; here it is kept from rotting."""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from conftest import ROOT, Stage

from edge_agent import __version__
from edge_agent.cli.app import cli
from edge_agent.cli.connection import DEFAULT_CONFIG
from edge_agent.config import AgentConfig, load_config
from edge_agent.config.agent import AgentOptions
from edge_agent.options import parse_duration
from edge_agent.registry import ADAPTER_GROUPS, adapters

FINAL = ("agent", "demo")


def wanted_extras() -> set[str]:
    """Those of all adapters, of OTLP, and of updates over the air; not those of who trains or publishes."""
    good = [adapter for group in ADAPTER_GROUPS for adapter in adapters(group)[0]]
    return {adapter.extra for adapter in good if adapter.extra is not None} | {"otlp", "ota"}


@pytest.fixture(scope="module")
def config() -> AgentConfig:
    return load_config(ROOT / "deploy/compose/agent.yaml")


def environment(stage: Stage) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in stage.all("ENV") for pair in line.split())


def test_without_a_target_the_agent_is_built(stages: dict[str, Stage]) -> None:
    assert list(stages)[-1] == "agent"


@pytest.mark.parametrize("name", FINAL)
class TestFinalStage:
    def test_has_nothing_but_what_was_assembled(self, stages: dict[str, Stage], name: str) -> None:
        assert stages[stages[name].base].base == "scratch"
        (copied,) = stages[name].all("COPY")
        assert re.fullmatch(r"--from=build(-demo)? /rootfs /", copied)

    def test_runs_as_a_numbered_user_who_is_not_root(self, stages: dict[str, Stage], name: str) -> None:
        uid, gid = stages[name].last("USER").split(":")
        assert int(uid) >= 10_000
        assert int(gid) >= 10_000
        assert f"USER = {uid}" in (ROOT / "deploy/image/assemble.py").read_text()

    def test_sends_no_telemetry_and_writes_no_byte_code(self, stages: dict[str, Stage], name: str) -> None:
        found = environment(stages[name])
        assert found["ORT_DISABLE_TELEMETRY"] == "1"
        assert found["PYTHONDONTWRITEBYTECODE"] == "1"

    def test_is_stopped_by_the_signal_that_the_daemon_obeys(self, stages: dict[str, Stage], name: str) -> None:
        assert stages[name].last("STOPSIGNAL") == "SIGTERM"
        assert json.loads(stages[name].last("ENTRYPOINT")) == ["edge-agent"]

    def test_keeps_its_state_in_a_volume(self, stages: dict[str, Stage], name: str) -> None:
        assert json.loads(stages[name].last("VOLUME")) == [str(AgentOptions().data_dir)]


def test_image_runs_the_usual_configuration(stages: dict[str, Stage]) -> None:
    assert json.loads(stages["agent"].last("CMD")) == ["run", "-c", str(DEFAULT_CONFIG)]


def test_image_has_a_label_with_the_version(stages: dict[str, Stage]) -> None:
    assert stages["agent"].all("ARG")[0] == f"VERSION={__version__}"
    assert 'org.opencontainers.image.version="${VERSION}"' in stages["agent"].last("LABEL")


def test_everything_works_in_the_image_and_training_is_not_in_it(stages: dict[str, Stage]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = (rest.partition("=")[2].split(",") for rest in stages["build"].all("ARG"))
    assert set(extras) == wanted_extras() <= set(known)
    assert "--constraint constraints.txt" in stages["build"].last("RUN")


def test_the_demo_can_do_what_the_agent_can(stages: dict[str, Stage]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    match = re.search(r'"\.\[([a-z,-]+)\]"', stages["build-demo"].last("RUN"))
    (demo,) = (re.search(r"\[([a-z,-]+)\]", one) for one in known["demo"] if one.startswith("edge-graph-agent["))
    assert match is not None
    assert demo is not None
    assert {*match[1].split(","), *demo[1].split(",")} == wanted_extras() | {"demo"}


def test_everything_works_where_the_script_installs() -> None:
    match = re.search(r'"\$what\[([a-z,-]+)\]"', (ROOT / "deploy/systemd/install.sh").read_text())
    assert match is not None
    assert set(match[1].split(",")) == wanted_extras()


def test_builder_gets_everything_that_is_copied(stages: dict[str, Stage]) -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    sources = [path for rest in stages["source"].all("COPY") for path in rest.split()[:-1]]
    assert len(sources) > 5
    for path in sources:
        assert (ROOT / path).exists()
        assert any(path == name or fnmatch.fnmatch(path, f"{name}/*") for name in allowed), path


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def exit_code(healthcheck: list[str], address: str) -> int:
    proxy = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    environ = os.environ | proxy | {"EDGE_AGENT_LIVEZ": address}
    done = subprocess.run([sys.executable, *healthcheck[1:]], env=environ, capture_output=True, timeout=20)
    return done.returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_health_check_asks_livez_whatever_the_proxy(healthcheck: list[str], status: int, code: int) -> None:
    with answering(status) as address:
        assert exit_code(healthcheck, address) == code


def test_health_check_fails_when_nobody_answers(healthcheck: list[str]) -> None:
    with answering(200) as address:
        pass
    assert exit_code(healthcheck, address) == 1


@pytest.mark.parametrize("name", ["agent", "broker", "prometheus", "demo"])
class TestService:
    def test_is_locked_down(self, compose: dict[str, Any], name: str) -> None:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["mem_limit"]
        assert service["pids_limit"]

    def test_is_published_on_loopback_only(self, compose: dict[str, Any], name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in compose["services"][name].get("ports", []))

    def test_mounts_what_is_there(self, compose: dict[str, Any], name: str) -> None:
        for volume in compose["services"][name].get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"]


def test_agent_waits_for_a_healthy_broker(compose: dict[str, Any]) -> None:
    assert compose["services"]["agent"]["depends_on"] == {"broker": {"condition": "service_healthy"}}
    assert compose["services"]["broker"]["healthcheck"]["test"][0] == "CMD"


def test_plain_up_starts_no_demo(compose: dict[str, Any]) -> None:
    assert compose["services"]["demo"]["profiles"] == ["demo"]
    assert [name for name, service in compose["services"].items() if "profiles" in service] == ["demo"]


def test_demo_is_started_with_options_that_exist(compose: dict[str, Any]) -> None:
    from edge_agent.demo.command import command

    words = compose["services"]["demo"]["command"]
    assert words[0] == "demo"
    parent = click.Context(
        cli, **cli.context_settings
    )  # as it is called; click keeps the help option of the first call
    assert command.make_context("demo", words[1:], parent=parent).params["plain"] is True


def test_built_targets_exist(compose: dict[str, Any], stages: dict[str, Stage]) -> None:
    built = {name: service["build"]["target"] for name, service in compose["services"].items() if "build" in service}
    assert built == {"agent": "agent", "demo": "demo"}
    assert set(built.values()) <= set(stages)


def test_stopping_gets_more_time_than_the_agent_takes(compose: dict[str, Any], config: AgentConfig) -> None:
    assert parse_duration(compose["services"]["agent"]["stop_grace_period"]) > config.agent.stop_timeout


def test_addresses_fit_the_services(compose: dict[str, Any], config: AgentConfig) -> None:
    services = compose["services"]
    assert {source.host for source in config.sources.values()} <= set(services)  # type: ignore[attr-defined]  # MQTT
    port = config.api.listen.rpartition(":")[2]
    assert f"127.0.0.1:{port}:{port}" in services["agent"]["ports"]
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    (target,) = scrape[0]["static_configs"][0]["targets"]
    assert target == f"agent:{port}"
    assert "agent" in config.api.hosts


def test_state_is_kept_where_it_may_be_written(compose: dict[str, Any], config: AgentConfig) -> None:
    assert f"agent-state:{config.agent.data_dir}" in compose["services"]["agent"]["volumes"]


def test_configuration_is_mounted_as_a_folder_so_that_a_replaced_file_is_seen(compose: dict[str, Any]) -> None:
    assert f"./deploy/compose:{DEFAULT_CONFIG.parent}:ro" in compose["services"]["agent"]["volumes"]


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_takes_the_file() -> None:
    subprocess.run(
        ["docker-compose", "--profile", "demo", "config", "-q"], cwd=ROOT, check=True, capture_output=True, timeout=30
    )


@pytest.mark.parametrize("script", sorted(ROOT.glob("deploy/**/*.sh")), ids=lambda path: path.name)
def test_scripts_are_well_formed(script: Path) -> None:
    shell = "sh" if script.read_text().startswith("#!/bin/sh\n") else "bash"
    subprocess.run([shell, "-n", script], check=True, timeout=10)
