"""Templates: what they may say, what they may not, and that nothing they say takes long."""

from __future__ import annotations

import logging
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext
from edge_agent.metrics import Metrics
from edge_agent.options import Options
from edge_agent.templates import EventText, Template, plain_text, title, try_templates
from edge_agent.templates.filters import filters
from edge_agent.templates.meter import WORK
from edge_agent.templates.option import VARIABLES, variables
from edge_agent.templates.samples import sample_events
from edge_agent.verdict import Event, EventKind

FULL, BARE, *_ = sample_events([EventKind.INCIDENT])
[STATUS] = sample_events([EventKind.STATUS])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ severity | upper }} {{ agent }}", "HIGH gateway-7"),
        ("{{ incident.opened | time }}", "2026-11-20 10:42:07 UTC"),
        ("{{ incident.opened | clock }}", "10:42:07"),
        ("{{ incident.opened | time('Europe/Vienna') }}", "2026-11-20 11:42:07 CET"),
        ("{{ incident.opened | seconds_until(incident.updated) | duration }}", "3m 20s"),
        ("{{ incident.sensors[0].seen | quantity(incident.sensors[0].unit) }}", "812.4 mm"),
        ("{{ incident.sensors[1].seen | quantity }}", "nothing"),
        ("{{ incident.sensors[0].share | percent }}", "62 %"),
        ("{{ incident.sensors | map(attribute='sensor') | join(', ') }}", "LIT301, FIT201"),
        ("{% for part in incident.sensors %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/2 2/2 "),
        ("{{ {'text': agent, 'n': [1, none]} | tojson }}", '{"text":"gateway-7","n":[1,null]}'),
        ("{{ incident.summary | replace('\"', '') | truncate(20) }}", "LIT301 rises 4.1..."),
        ("{{ incident.closed }}", ""),
        ("{{ 'late' if replayed else 'live' }}", "late"),
        ("{{ 'yes' if severity in ['high', 'critical'] else 'no' }}", "yes"),
        ("{{ agent ~ '/' ~ 7 }}", "gateway-7/7"),
        ("{{ '<b>' | escape }} {{ 'a b/c' | urlencode }}", "&lt;b&gt; a%20b%2Fc"),
        ("{{ incident.nothing | default('none') }}", "none"),
        ("{% for name, value in body.items() %}{% if name == 'id' %}{{ value }}{% endif %}{% endfor %}", FULL.id),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ (2 + 3) * 4 % 7 }} {{ 10 // 4 }} {{ 1.256 | round(2) }}", "6 2 1.26"),
    ],
)
def test_template_says(source: str, text: str) -> None:
    assert Template(source).render(FULL) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for", "line 1: unexpected 'end of template'"),
        ("\n\n{{ incidnt }}", "line 3: there is no variable 'incidnt', did you mean 'incident'?"),
        ("{{ x | nofilter }}", "line 1: No filter named 'nofilter'."),
        ("{% macro a() %}{% endmacro %}", "Macro is not allowed in a template, only {{ … }}"),
        ("{% include 'x' %}", "Include is not allowed"),
        ("{% import 'x' as y %}", "Import is not allowed"),
        ("{% for a in body recursive %}{{ loop(a) }}{% endfor %}", "a recursive loop is not allowed"),
        ("{% set x %}a{% endset %}", "AssignBlock is not allowed"),
        ("{{ 9 ** 9 }}", "Pow is not allowed"),
        ("{% set a = [id, id] %}", "a list in {% set %} or {% for %} takes only constants"),
        ("{% for a in [{'x': id}] %}{% endfor %}", "a list in {% set %} or {% for %} takes only constants"),
        ("x" * 16_385, "the template has 16385 characters, expected at most 16384"),
        ("{{" + "(" * 2000 + "1" + ")" * 2000 + "}}", "the template is nested too deeply"),
        ("{% for a in 'a' %}" * 30 + "{% endfor %}" * 30, "the template is nested too deeply"),
    ],
)
def test_mistake_is_found_when_the_template_is_read(source: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Template(source)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ incident.sumary }}", "line 1: there is no 'sumary' here, did you mean 'summary'?"),
        ("\n{{ 1 / 0 }}", "line 2: division by zero"),
        ("{{ incident }}", "got a mapping; write {{ … | join(', ') }} or {{ … | tojson }}"),
        ("{{ incident.sensors }}", "got a list"),
        ("{{ agent + 1 }}", "`+` takes two numbers (`+` two texts as well), got str"),
        ("{{ incident.nothing + 1 }}", "there is no 'nothing' here"),
        ("{{ incident.opened | time('Mars') }}", "got the time zone 'Mars', which this system does not know"),
        ("{{ agent | time }}", "Invalid isoformat string"),
        ("{{ 'x' | indent(1000000000) }}", "indent takes a width of 0 to 40, got 1000000000"),
        ("{{ 1 | round(1000000000) }}", "round takes 0 to 12 digits"),
        ("{{ range(1001) | join }}", "range of 1001, expected at most 1000"),
        ("{{ 'a'.center(1000000000) }}", "'center' cannot be called in a template; use filters"),
        ("{{ '{:1000000000d}'.format(1) }}", "'format' cannot be called"),
        ("{{ 'a' * 1000000000 }}", "`*` takes two numbers"),
        ("{{ '%1000000000d' % 1 }}", "`%` takes two numbers"),
        ("{{ ''.__class__.__mro__ }}", "'__class__' of 'str' object is unsafe"),
        ("{{ incident.get.__self__ }}", "'__self__' of 'builtin_function_or_method' object is unsafe"),
        ("{{ body.update({'a': 1}) }}", "there is no 'update' here"),
        ("{% set x = 99999999 %}" + "{% set x = x * x %}" * 9, "got a large number"),
    ],
)
def test_failure_says_line_and_reason(source: str, message: str) -> None:
    template = Template(source)
    with pytest.raises(ValueError) as caught:
        template.render(FULL)
    assert message in str(caught.value)


GROW = "{% set big = text | replace('e', text) %}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(1000) %}" * 3 + "{% endfor %}" * 3,
        "{% for a in range(999) %}{{ range(1000) | map('string') | map('list') | list | length }}{% endfor %}",
        "{% for a in range(999) %}{% for b in range(90) %}{{ text }}{% endfor %}{% endfor %}",
        "{% set x = text %}" + "{% set x = x ~ x %}" * 60,
        "{% set x = text %}" + "{% set x = x + x %}" * 60,
        "{{ 'a'" + " | replace('', text)" * 9 + " }}",
        GROW
        + "{% for i in range(1000) %}{% if big in big %}{% endif %}"
        + "{{ big[1:] | length }}" * 90
        + "{% endfor %}",
        GROW + "{% for i in range(1000) %}" + "{{ big | upper | lower | length }}" * 90 + "{% endfor %}",
        "{{ range(1000) | map('replace', '1', text) | map('replace', '', text) | join }}",
        "{% for i in range(1000) %}{% for j in range(9) %}"
        + "{% if i %}{% endif %}" * 700
        + "{% endfor %}{% endfor %}",
    ],
    ids=range(10),
)
def test_whatever_a_template_does_it_ends_by_arithmetic(source: str) -> None:
    """No clock is asked, so it ends on a slow machine as on a fast one; the time limit of the test is the proof."""
    template = Template(source)
    with pytest.raises(ValueError, match=r"takes too many steps|more than 1000000 characters|longer than"):
        template.render(FULL)


def test_steps_are_counted_anew_for_each_rendering() -> None:
    template = Template("{% for a in range(900) %}{% for b in range(9) %}{% endfor %}{% endfor %}ok")
    assert 2 * 900 * 9 * 10 > WORK > 900 * 9 * 10
    assert [template.render(FULL) for _ in range(3)] == ["ok"] * 3


def test_length_of_the_text_can_be_limited() -> None:
    with pytest.raises(ValueError, match="the text is longer than 10 characters"):
        Template("{{ text }}").render(FULL, 10)


def test_event_is_not_changed_by_a_template() -> None:
    before = repr(FULL)
    Template(
        "{% for s in incident.sensors %}{% set s = 1 %}{% endfor %}"
        "{{ incident.sensors | sort(attribute='share') | first | length }}"
    ).render(FULL)
    assert repr(FULL) == before


@pytest.mark.parametrize(
    "event", list(sample_events(EventKind)), ids=lambda event: f"{event.kind}-{event.body.get('state')}"
)
def test_every_variable_is_there_in_every_event(event: Event) -> None:
    assert tuple(variables(event)) == VARIABLES
    source = "".join(f"{{{{ {name} is defined }}}}" for name in VARIABLES)
    assert Template(source).render(event) == "True" * len(VARIABLES)


def test_there_is_a_sample_of_every_kind_of_event() -> None:
    assert {event.kind for event in sample_events(EventKind)} == set(EventKind)
    assert {(e.body["kind"], e.body["state"]) for e in sample_events([EventKind.INCIDENT])} == {
        (kind, state) for kind in ("process", "data_quality", "rule") for state in ("open", "updated", "closed")
    }


def test_what_the_page_of_sinks_shows_works_and_names_every_filter() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
    [example] = re.findall(r"```jinja\n(.*?)```", page, re.DOTALL)
    assert Template(example).render(FULL).strip().splitlines()[1:] == [
        "LIT301 (62 %): 812.4 mm, expected 640.1 mm",
        "FIT201 (20 %): nothing, expected nothing",
    ]
    section = page.partition("## Templates")[2]
    for name, text in re.findall(r"^\| `([^`]*\\\| [^`]*)` \| `([^`]*)`", section, re.MULTILINE):
        source = "{% set part = incident.sensors[0] %}{{ " + name.replace("\\|", "|") + " }}"
        assert Template(source).render(FULL) == text
    hidden = {"count", "d", "_turns", "_paid"}
    assert {name for name in filters() if not re.search(rf"\b{name}\b", section)} <= hidden
    assert all(f"`{name}`" in section for name in VARIABLES)


# -- as an option


class _Options(Options):
    text: Template | None = None


def test_option_takes_text_and_compares_by_it() -> None:
    options = _Options.model_validate({"text": "{{ title }}"})
    assert options == _Options(text=Template("{{ title }}"))
    assert options != _Options(text=Template("{{ text }}"))
    assert hash(options.text) == hash(Template("{{ title }}"))
    assert options.model_dump(mode="json") == {"text": "{{ title }}"}
    assert _Options.model_json_schema()["properties"]["text"]["anyOf"][0]["type"] == "string"


@pytest.mark.parametrize(
    ("value", "message"),
    [("{% for", "unexpected 'end of template'"), (7, "got 7, expected the text of a template such as '{{ title }}'")],
)
def test_option_refuses(value: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Options.model_validate({"text": value})
    assert message in str(caught.value)


def test_jinja_is_imported_only_when_there_is_a_template() -> None:
    code = (
        "import sys, edge_agent.templates as t\n"
        "early = 'jinja2' in sys.modules\n"
        "t.Template('')\n"
        "print(early, 'jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# -- trial and fallback


def test_trial_names_option_event_and_line() -> None:
    with pytest.raises(ValueError, match="body: fails for a status event: line 1: 'None' has no attribute 'summary'"):
        try_templates(
            [EventKind.INCIDENT, EventKind.STATUS], {"title": None, "body": Template("{{ incident.summary }}")}
        )
    closed_only = Template("{{ incident.closed | seconds_until(incident.opened) }}")
    with pytest.raises(ValueError, match="body: fails for the open process incident"):
        try_templates([EventKind.INCIDENT], {"body": closed_only})
    try_templates([EventKind.INCIDENT], {"body": Template("{{ incident.summary }}")})


def test_trial_looks_at_what_the_text_is_good_for() -> None:
    def json_only(text: str) -> str:
        raise ValueError("no JSON")

    with pytest.raises(ValueError, match="body: fails for the open process incident: no JSON"):
        try_templates([EventKind.INCIDENT], {"body": Template("{{ title }}")}, json_only)


def test_template_that_fails_is_replaced_by_the_built_in_text_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    context = AdapterContext("mail", VirtualClock(0), random.Random(0), metrics, kind="sink")
    text = EventText("body", Template("{{ incident.summary }}"), plain_text, context.template_failed)
    with caplog.at_level(logging.WARNING):
        assert text.of(FULL) == FULL.body["summary"]
        assert [text.of(STATUS), text.of(STATUS)] == [plain_text(STATUS)] * 2
    assert metrics.template_failures.labels("mail", "body").value == 2
    [record] = caplog.records
    assert record.getMessage() == (
        f"template: body: fails for a status event {STATUS.id}: line 1: 'None' has no attribute 'summary'; "
        "sent with the built-in text"
    )


def test_without_a_template_the_built_in_text_is_used() -> None:
    def failed(option: str, message: str) -> None:
        raise AssertionError(message)

    assert EventText("title", None, title, failed).of(FULL) == title(FULL)
