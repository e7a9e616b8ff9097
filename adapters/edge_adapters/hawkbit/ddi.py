"""The Direct Device Integration API of hawkBit, version 1: what its answers mean, and what it is told. Pure.

Source: https://eclipse.dev/hawkbit/apis/ddi_api. Links of the server are not followed, only the numbers in them are
used: a token never goes anywhere but to the configured server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edge_agent.ota.report import Report
from edge_agent.ota.state import Phase, Result

DEFAULT_INTERVAL_S = 300.0
_SHORTEST_S, _LONGEST_S = 10.0, 86_400.0
_LONGEST_TEXT = 512
_LONGEST_VALUE = 128  # of an attribute, in hawkBit
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_INTERVAL = re.compile(r"([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])")

_EXECUTION = {
    Phase.DOWNLOADING: "download",
    Phase.VERIFIED: "downloaded",
    Phase.PROBED: "downloaded",
    Phase.STAGED: "downloaded",
    Phase.SHADOW: "proceeding",
    Phase.TRIAL: "proceeding",
}
"""By phase in which a release is worked on."""


@dataclass(frozen=True, slots=True)
class Poll:
    """Answer to a poll: seconds to the next, and numbers of the actions that it has links to."""

    interval_s: float
    deployment: str | None
    cancel: str | None
    wants_attributes: bool


@dataclass(frozen=True, slots=True)
class Feedback:
    """State of an action: ``execution`` and ``finished`` are words of DDI, ``details`` is for people."""

    execution: str
    finished: str
    details: str

    def to_dict(self) -> dict[str, Any]:
        """The body of the request; ``id`` and the rest are in its address."""
        result = {"finished": self.finished}
        return {"status": {"execution": self.execution, "result": result, "details": [self.details[:_LONGEST_TEXT]]}}

    @property
    def final(self) -> bool:
        """The server closes the action."""
        return self.execution == "closed"


def read_poll(answer: Any) -> Poll:
    """:raises ValueError: it is no answer to a poll."""
    links = _mapping(_mapping(answer, "the answer").get("_links", {}), "_links")
    return Poll(
        interval_s=_interval_s(answer),
        deployment=_action(links, "deploymentBase"),
        cancel=_action(links, "cancelAction"),
        wants_attributes="configData" in links,
    )


def read_release(answer: Any) -> str:
    """Which release a deployment asks for: the version of its first chunk. :raises ValueError: it has none."""
    deployment = _mapping(_mapping(answer, "the answer").get("deployment"), "deployment")
    chunks = deployment.get("chunks")
    if not isinstance(chunks, list) or not chunks:
        raise ValueError(f"chunks: got {chunks!r:.80}, expected a list with a software module")
    version = _mapping(chunks[0], "chunks[0]").get("version")
    if not isinstance(version, str) or not version:
        raise ValueError(f"chunks[0].version: got {version!r:.80}, expected the name of a release")
    return version


def read_stopped(answer: Any) -> str | None:
    """Number of the action that is to be cancelled, None: not said. :raises ValueError: no answer of that kind."""
    action = _mapping(_mapping(answer, "the answer").get("cancelAction", {}), "cancelAction")
    stopped = action.get("stopId")
    return stopped if isinstance(stopped, str) and _NUMBER.fullmatch(stopped) else None


def feedback_on(release: str, report: Report | None) -> Feedback:
    """How the deployment of ``release`` stands, by the latest report."""
    if report is not None and report.release == release and report.phase in _EXECUTION:
        return Feedback(_EXECUTION[report.phase], "none", f"{release}: {report.phase.value}")
    outcome = report.outcome if report is not None else None
    if outcome is None or outcome.release != release:
        problem = f"; {report.problem}" if report is not None and report.problem else ""
        return Feedback("proceeding", "none", f"{release}: looked for in the repository{problem}")
    said = ": ".join(text for text in (outcome.result.value, outcome.reason, outcome.message) if text)
    finished = "success" if outcome.result is Result.COMMITTED else "failure"
    return Feedback("closed", finished, f"{release}: {said}")


def feedback_on_cancelling(release: str | None, report: Report) -> Feedback:
    """Whether the deployment of ``release`` (None: not known any more) can be given up: not when it is worked on.

    What a gateway does is decided by the signed ring file alone.
    """
    if report.phase in _EXECUTION and release in (None, report.release):
        return Feedback("rejected", "none", f"{report.release} is worked on: halt it in its ring")
    return Feedback("closed", "success", "it is not worked on")


def attributes(report: Report) -> dict[str, Any]:
    """What the server is told about this gateway when it asks (``configData``)."""
    data = {
        "agent_version": report.agent,
        "fleet": report.fleet,
        "ring": report.ring,
        "hardware": ",".join(report.hardware),
        "model": f"{report.model.name} {report.model.version}" if report.model is not None else "",
    }
    return {"mode": "merge", "data": {name: value[:_LONGEST_VALUE] for name, value in data.items()}}


def _interval_s(answer: Any) -> float:
    polling = _mapping(_mapping(answer.get("config", {}), "config").get("polling", {}), "polling")
    match = _INTERVAL.fullmatch(str(polling.get("sleep", "")))
    if match is None:
        return DEFAULT_INTERVAL_S
    hours, minutes, seconds = (float(part) for part in match.groups())
    return min(max(hours * 3600 + minutes * 60 + seconds, _SHORTEST_S), _LONGEST_S)


def _action(links: dict[str, Any], name: str) -> str | None:
    if name not in links:
        return None
    href = _mapping(links[name], name).get("href")
    number = urlsplit(href).path.rpartition("/")[2] if isinstance(href, str) else ""
    if _NUMBER.fullmatch(number) is None:
        raise ValueError(f"_links.{name}.href: got {href!r:.120}, expected an address that ends with a number")
    return number


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: got {value!r:.80}, expected an object")
    return value
