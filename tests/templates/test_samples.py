"""What templates are tried on has the form of what sinks are told."""

from __future__ import annotations

from edge_agent.contract import DigestOptions
from edge_agent.notify import Moment
from edge_agent.notify.digest import Digest
from edge_agent.templates.samples import sample_events
from edge_agent.verdict import EventKind, Incident, IncidentKind, IncidentState, Severity

NOW = Moment(0, 1_760_000_000 * 10**9)


def test_a_sample_digest_has_the_keys_of_a_digest() -> None:
    incident = Incident(
        "i", IncidentKind.PROCESS, IncidentState.OPEN, Severity.LOW, 0, 0, None, 1, 1, 0.1, 1.0, "x", ()
    ).to_dict()  # fmt: skip
    digest = Digest.begin(DigestOptions.model_validate({"every": "1h"}), NOW)
    digest.add_incident(incident)
    body = digest.body(NOW.wall_ns, list(digest.incidents.values()))
    [sample] = sample_events([EventKind.DIGEST])
    assert set(sample.body) == {*body, "agent"}
    assert sample.body["worst"][0].keys() == body["worst"][0].keys()
    assert sample.body["open"][0].keys() == body["open"][0].keys()
