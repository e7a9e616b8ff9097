"""Scrape configuration and alerts, against the metrics that exist and the program that reads them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from edge_agent.metrics import Metrics

RULES = ROOT / "deploy/prometheus/edge-agent.rules.yml"
CASES = Path(__file__).with_name("edge-agent.rules.test.yml")


def alerts() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_alerts_are_about_metrics_that_exist() -> None:
    families = {family.name for family in Metrics().families()}
    used = {name for rule in alerts() for name in re.findall(r"edge_agent_\w+", rule["expr"])}
    assert len(used) > 10
    assert used <= families


def test_every_alert_has_a_case() -> None:
    cases = CASES.read_text()
    assert [rule["alert"] for rule in alerts() if rule["alert"] not in cases] == []


@pytest.mark.counterpart
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", ROOT / "deploy/prometheus/prometheus.yml"), ("test", "rules", CASES)],
    ids=["configuration", "alerts"],
)
def test_promtool_agrees(arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
