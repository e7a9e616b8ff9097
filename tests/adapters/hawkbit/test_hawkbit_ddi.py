"""What answers of a DDI server mean, and what it is told: pure functions."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_adapters.hawkbit import ddi
from edge_agent.ota.report import Report, parse_report
from edge_agent.ota.state import Outcome, Phase, Result
from edge_agent.testing import sample_report

HREF = "https://h/DEFAULT/controller/v1/g/deploymentBase/8?c=3"


def report(phase: Phase = Phase.IDLE, release: str | None = None, **changes: Any) -> Report:
    base = parse_report(sample_report(1, phase.value))
    return base.model_copy(update={"phase": phase, "release": release, "outcome": None} | changes)


def outcome(result: Result, release: str = "r1") -> Outcome:
    return Outcome(
        release=release, counter=7, result=result, reason="p99", message="too slow", time="2026-11-20T12:00:00Z"
    )


@pytest.mark.parametrize(
    ("sleep", "seconds"),
    [
        ("00:05:00", 300.0),
        ("01:00:01", 3601.0),
        ("00:00:00", 10.0),
        ("99:00:00", 86_400.0),
        ("5 minutes", 300.0),
        ("00:99:00", 300.0),
        (None, 300.0),
    ],
)
def test_interval_is_taken_within_bounds(sleep: str | None, seconds: float) -> None:
    assert ddi.read_poll({"config": {"polling": {"sleep": sleep}}}).interval_s == seconds


def test_poll_gives_numbers_of_actions() -> None:
    poll = ddi.read_poll({"_links": {"deploymentBase": {"href": HREF}, "configData": {"href": "x"}}})
    assert (poll.deployment, poll.cancel, poll.wants_attributes) == ("8", None, True)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "the answer: got [], expected an object"),
        ({"_links": []}, "_links: got [], expected an object"),
        ({"_links": {"deploymentBase": 5}}, "deploymentBase: got 5, expected an object"),
        (
            {"_links": {"deploymentBase": {"href": "https://h/../../etc"}}},
            "expected an address that ends with a number",
        ),
        ({"_links": {"cancelAction": {}}}, "_links.cancelAction.href: got None"),
        ({"config": 5}, "config: got 5, expected an object"),
    ],
    ids=str,
)
def test_answers_that_are_none_are_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace(".", r"\.")):
        ddi.read_poll(answer)


@pytest.mark.parametrize(
    "answer",
    [{}, {"deployment": {}}, {"deployment": {"chunks": []}}, {"deployment": {"chunks": [{"version": 5}]}}],
    ids=str,
)
def test_deployment_without_a_release_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        ddi.read_release(answer)


@pytest.mark.parametrize(
    ("phase", "execution"),
    [
        (Phase.DOWNLOADING, "download"),
        (Phase.VERIFIED, "downloaded"),
        (Phase.PROBED, "downloaded"),
        (Phase.STAGED, "downloaded"),
        (Phase.SHADOW, "proceeding"),
        (Phase.TRIAL, "proceeding"),
    ],
)
def test_phases_are_told(phase: Phase, execution: str) -> None:
    assert ddi.feedback_on("r1", report(phase, "r1")) == ddi.Feedback(execution, "none", f"r1: {phase.value}")


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.CHECKING, Phase.COMMITTED, Phase.ROLLED_BACK, Phase.QUARANTINED])
@pytest.mark.parametrize("result", list(Result))
def test_end_of_a_release_closes_its_action(phase: Phase, result: Result) -> None:
    said = ddi.feedback_on("r1", report(phase, "r1", outcome=outcome(result)))
    finished = "success" if result is Result.COMMITTED else "failure"
    assert said == ddi.Feedback("closed", finished, f"r1: {result.value}: p99: too slow")


def test_release_that_is_tried_again_is_not_closed() -> None:
    assert not ddi.feedback_on("r1", report(Phase.TRIAL, "r1", outcome=outcome(Result.ROLLED_BACK))).final


def test_release_that_is_not_found_is_looked_for() -> None:
    said = ddi.feedback_on("r2", report(outcome=outcome(Result.COMMITTED), problem="metadata expired"))
    assert said == ddi.Feedback("proceeding", "none", "r2: looked for in the repository; metadata expired")
    assert ddi.feedback_on("r2", None) == ddi.Feedback("proceeding", "none", "r2: looked for in the repository")


@pytest.mark.parametrize(
    ("release", "phase", "execution"),
    [
        ("r1", Phase.TRIAL, "rejected"),
        (None, Phase.TRIAL, "rejected"),
        ("r2", Phase.TRIAL, "closed"),
        ("r1", Phase.IDLE, "closed"),
    ],
)
def test_only_what_is_not_worked_on_can_be_cancelled(release: str | None, phase: Phase, execution: str) -> None:
    assert ddi.feedback_on_cancelling(release, report(phase, "r1")).execution == execution


def test_details_and_attributes_are_short() -> None:
    told = report(
        outcome=outcome(Result.COMMITTED).model_copy(update={"message": "x" * 1_000}), hardware=("h" * 64,) * 9
    )
    [details] = ddi.feedback_on("r1", told).to_dict()["status"]["details"]
    assert len(details) == 512
    assert {len(value) <= 128 for value in ddi.attributes(told)["data"].values()} == {True}


WORDS = [
    "_links",
    "config",
    "polling",
    "sleep",
    "deploymentBase",
    "cancelAction",
    "href",
    "deployment",
    "chunks",
    "version",
    "stopId",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([HREF, "http://[x/7"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_answer_is_understood_or_refused(answer: Any) -> None:
    for read in (ddi.read_poll, ddi.read_release, ddi.read_stopped):
        with contextlib.suppress(ValueError):
            read(answer)
    with contextlib.suppress(ValueError):
        assert 10 <= ddi.read_poll(answer).interval_s <= 86_400
