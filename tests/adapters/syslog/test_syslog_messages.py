"""Syslog messages by hand-worked cases: header, structured data, CEF, OCSF, lengths."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_ocsf_models.events.findings.detection_finding import DetectionFinding
from syslog_rig import NOW_NS, incident_event, parsed, status_event

from edge_adapters.syslog.cef import cef
from edge_adapters.syslog.facts import MOST_SENSORS, Facts, facts
from edge_adapters.syslog.message import Messages, cut, element, framed, visible
from edge_adapters.syslog.ocsf import ocsf
from edge_adapters.syslog.options import Framing
from edge_adapters.syslog.text import text
from edge_agent.verdict import (
    Acknowledgement,
    Contribution,
    Event,
    EventKind,
    IncidentKind,
    IncidentState,
    Severity,
)

CLOSED = {"state": IncidentState.CLOSED, "closed_ns": NOW_NS}


def message(event: Event, **options: Any) -> str:
    return Messages(parsed(**options), "42", "1.2.3").message(facts(event))[0].decode()


def test_a_message_is_as_rfc_5424_says() -> None:
    assert message(incident_event()) == (
        "<131>1 2027-01-15T08:00:00.125Z gateway-7 edge-agent 42 incident "
        '[meta sequenceId="1"]'
        '[edge@32473 id="01KEVENT" agent="gateway-7" incident="01KINCIDENT" state="open" severity="high" '
        'kind="process" sensors="LIT301,FIT201" areas="stage 3" techniques="T0856,T0831" p_value="1.25e-06"] '
        '[high open] LIT301 rises 4.1 mm/s while "FIT201" says inflow is off (sensors LIT301 75%, FIT201 25%; areas '
        "stage 3; looks like Spoofed reporting; ATT&CK T0856, T0831; p 1.3e-06; incident 01KINCIDENT)"
    )


def test_a_status_message_is_short() -> None:
    options = {"structured_data": False, "facility": "kern", "app_name": "plant", "hostname": "box.example"}
    expected = "<6>1 2027-01-15T08:00:00.000Z box.example plant 42 status - the wall clock jumped"
    assert message(status_event(), **options) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"severity": Severity.LOW}, 5),
        ({"severity": Severity.MEDIUM}, 4),
        ({"severity": Severity.HIGH}, 3),
        ({"severity": Severity.CRITICAL}, 2),
        ({"severity": Severity.CRITICAL, **CLOSED}, 5),
        ({"severity": Severity.CRITICAL, "suppressed": "maintenance"}, 5),
    ],
)
def test_severity_follows_the_incident(changed: dict[str, Any], expected: int) -> None:
    assert message(incident_event(**changed), facility="local7").startswith(f"<{23 * 8 + expected}>1 ")


def test_messages_are_numbered_through() -> None:
    messages = Messages(parsed(), "42", "1")
    numbers = [re.search(rb'sequenceId="(\d+)"', messages.message(facts(status_event()))[0]) for _ in range(3)]
    assert [number and number[1] for number in numbers] == [b"1", b"2", b"3"]


def test_structured_data_is_escaped() -> None:
    assert element("edge@1", {"a": 'say "hi" \\ [x]\nnow', "b": ""}) == r'[edge@1 a="say \"hi\" \\ [x\] now"]'


@pytest.mark.parametrize(("name", "expected"), [("", "-"), ("Halle 7 Süd", "Halle_7_S_d"), ("x" * 300, "x" * 255)])
def test_header_fields_are_visible_ascii(name: str, expected: str) -> None:
    assert visible(name, 255) == expected


def test_line_ends_from_outside_begin_no_new_message() -> None:
    evil = status_event(message="ok\n<34>1 2027-01-15T08:00:00Z bank vault - - - opened\x1b[2J\u2028")
    for form in ("text", "cef", "ocsf"):
        line = message(evil, format=form, structured_data=False)
        assert not re.search(r"[\x00-\x1f\u2028]", line)


def test_a_byte_order_mark_on_request() -> None:
    assert message(status_event(), byte_order_mark=True, structured_data=False).endswith(
        " - \N{ZERO WIDTH NO-BREAK SPACE}the wall clock jumped"
    )


@given(st.text(), st.integers(0, 50))
def test_cutting_leaves_whole_characters(words: str, longest: int) -> None:
    encoded = words.encode(errors="ignore")
    short = cut(encoded, longest)
    assert len(short) <= longest
    assert encoded.startswith(short)
    assert len(encoded) <= longest or len(short) > longest - 4
    short.decode()


def test_what_is_too_long_loses_its_details_first() -> None:
    event = incident_event()
    messages = Messages(parsed(transport="udp", format="ocsf", structured_data=False, max_length="1500B"), "42", "1")
    short, was_cut = messages.message(facts(event))
    assert not was_cut
    assert len(short) <= 1500
    document = json.loads(short.decode().split(" - ", 1)[1])
    assert document["finding_info"]["uid"] == "01KINCIDENT"
    assert "resources" not in document


def test_what_is_too_long_even_so_is_cut_and_told() -> None:
    messages = Messages(parsed(transport="udp", max_length="480B", structured_data=False), "42", "1")
    short, was_cut = messages.message(facts(incident_event(summary="ü" * 400)))
    assert was_cut
    assert len(short) in (479, 480)
    short.decode()


def test_frames() -> None:
    assert framed("äh".encode(), Framing.OCTET_COUNTING) == b"3 \xc3\xa4h"
    assert framed(b"x", Framing.NEWLINE) == b"x\n"


# -- CEF -------------------------------------------------------------------------------------------------------


def test_cef_by_hand() -> None:
    assert cef(facts(incident_event()), "1.2.3") == (
        "CEF:0|edge-graph-agent|edge-agent|1.2.3|incident:process|"
        'LIT301 rises 4.1 mm/s while "FIT201" says inflow is off|8|'
        "rt=1800000000125 externalId=01KINCIDENT dvchost=gateway-7 cat=process act=Open start=1799999940000 "
        'msg=LIT301 rises 4.1 mm/s while "FIT201" says inflow is off '
        "cs1=LIT301, FIT201 cs1Label=sensors cs2=LIT301 cs2Label=firstMover cs3=T0856, T0831 "
        "cs3Label=attackTechniques cs4=stage 3 cs4Label=areas cs6=01KEVENT cs6Label=eventId "
        "cfp1=1.25e-06 cfp1Label=pValue cfp2=7.5 cfp2Label=score"
    )


def test_cef_escapes_header_and_extension_in_their_own_ways() -> None:
    record = cef(facts(incident_event(summary="a|b\\c=d\r\ne")), "1")
    assert "|a\\|b\\\\c=d e|8|" in record  # header: pipe and backslash; no line ends
    assert " msg=a|b\\\\c\\=d\\ne " in record  # extension: equals sign and backslash; \n is written out


def cef_fields(record: str) -> tuple[list[str], dict[str, str]]:
    """A reader of CEF that follows the standard and not our writer."""
    header = re.split(r"(?<!\\)(?:\\\\)*\|", record, maxsplit=7)
    pairs = re.findall(r"(\w+)=((?:\\.|[^=\\])*?)(?= \w+=|$)", header[7])
    plain = {"\\n": "\n", "\\r": "\r", "\\=": "=", "\\\\": "\\"}
    return header, {key: re.sub(r"\\.", lambda found: plain[found[0]], value) for key, value in pairs}


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=60))
def test_any_text_comes_back_out_of_cef(words: str) -> None:
    known = facts(incident_event(summary=words))
    _, fields = cef_fields(cef(known, "1"))
    assert fields["msg"] == words
    assert fields["externalId"] == "01KINCIDENT"


@pytest.mark.parametrize(
    ("changed", "severity", "act"),
    [
        ({"severity": Severity.LOW}, "3", "Open"),
        ({"severity": Severity.MEDIUM, "state": IncidentState.UPDATED}, "5", "Updated"),
        ({"severity": Severity.CRITICAL, **CLOSED}, "10", "Closed"),
    ],
)
def test_cef_severity_and_action(changed: dict[str, Any], severity: str, act: str) -> None:
    header, fields = cef_fields(cef(facts(incident_event(**changed)), "1"))
    assert header[6] == severity
    assert fields["act"] == act


def test_cef_of_a_status_event() -> None:
    record = cef(facts(status_event()), "1")
    assert record.startswith("CEF:0|edge-graph-agent|edge-agent|1|status:clock_jump|the wall clock jumped|1|rt=")


# -- OCSF ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize("kind", list(IncidentKind))
@pytest.mark.parametrize("state", list(IncidentState))
@pytest.mark.parametrize("severity", list(Severity))
def test_ocsf_is_what_the_models_of_1_5_0_ask_for(
    severity: Severity, state: IncidentState, kind: IncidentKind, brief: bool
) -> None:
    event = incident_event(severity=severity, state=state, kind=kind)
    document = ocsf(facts(event), "1.2.3", brief=brief)
    checked = DetectionFinding.model_validate_json(json.dumps(document))
    assert checked.class_uid == 2004
    assert checked.type_uid == 200400 + checked.activity_id
    assert checked.metadata.version == "1.5.0"
    assert checked.finding_info.attacks is not None
    assert [attack.technique and attack.technique.uid for attack in checked.finding_info.attacks] == ["T0856", "T0831"]


def test_ocsf_by_hand() -> None:
    document = ocsf(facts(incident_event()), "1.2.3")
    assert (document["activity_id"], document["severity_id"], document["status_id"]) == (1, 4, 1)
    assert document["is_alert"] is True
    assert document["time"] == 1_800_000_000_125
    assert document["start_time"] == 1_799_999_940_000
    assert document["device"]["hostname"] == "gateway-7"
    assert document["metadata"]["profiles"] == ["host"]
    assert document["metadata"]["correlation_uid"] == "01KINCIDENT"
    assert document["finding_info"]["analytic"]["type_id"] == 4
    assert [resource["uid"] for resource in document["resources"]] == ["LIT301", "FIT201"]
    assert document["resources"][0]["data"] == {
        "share": 0.75,
        "score": 9.0,
        "seen": 812.0,
        "expected": 640.5,
        "unit": "mm",
        "reason": "high",
    }
    assert document["observables"][1] == {
        "name": "resources[1].uid",
        "type_id": 10,
        "type": "Resource UID",
        "value": "FIT201",
    }
    assert document["unmapped"]["patterns"][0]["stages"] == ["freeze"]
    assert document["unmapped"]["p_value"] == 1.25e-6


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (1, "New", True)),
        ({"acknowledged": Acknowledgement("eva", NOW_NS)}, (2, "In Progress", True)),
        ({"suppressed": "maintenance"}, (3, "Suppressed", False)),
        (CLOSED, (4, "Resolved", False)),
    ],
)
def test_ocsf_status_follows_what_people_did(changed: dict[str, Any], expected: tuple[int, str, bool]) -> None:
    document = ocsf(facts(incident_event(**changed)), "1")
    assert (document["status_id"], document["status"], document["is_alert"]) == expected


def test_a_digest_is_told_as_one_line() -> None:
    body = {"what": "digest", "message": "2 incidents from 10:00 to 11:00\nworst:", "agent": "gateway-7"}
    line = message(Event("d", EventKind.DIGEST, NOW_NS, body), structured_data=False)
    assert line.endswith(" digest - 2 incidents from 10:00 to 11:00 worst:")


def test_an_ocsf_status_event_is_a_base_event() -> None:
    document = ocsf(facts(status_event()), "1")
    assert (document["class_uid"], document["category_uid"], document["type_uid"]) == (0, 0, 99)
    assert (document["activity_id"], document["activity_name"], document["severity_id"]) == (99, "clock_jump", 1)


# -- events that are not as usual ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "strange", "severity": 7, "opened": "yesterday", "sensors": [None, {"share": 1}], "patterns": None},
        {"sensors": [{"sensor": "a", "share": None}], "acknowledged": None},
    ],
)
def test_an_incident_with_parts_missing_is_told_with_what_it_has(body: dict[str, Any]) -> None:
    known = facts(Event("e", EventKind.INCIDENT, NOW_NS, body))
    assert isinstance(known, Facts)
    assert cef(known, "1").startswith("CEF:0|")
    assert ocsf(known, "1")["class_uid"] == 2004
    assert text(known)


def test_a_thousand_sensors_are_not_all_named() -> None:
    many = tuple(Contribution(f"S{n:04}", 1 / 1000, 1.0, 1.0, 0.0, None, "high") for n in range(1000))
    known = facts(incident_event(contributions=many))
    assert len(known.sensors) == MOST_SENSORS
    made, was_cut = Messages(parsed(format="ocsf"), "1", "1").message(known)
    assert not was_cut
    assert len(made) <= 8192
