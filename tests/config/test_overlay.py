"""Overlays: merged as RFC 7396 says, kept to what they may change, and told with their own lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import AgentConfig, Overlay, load_in_use, overlay_path, parse_config
from edge_agent.config.overlay import merge_patch, overruled_options
from edge_agent.config.watchfulness import less_watchful
from edge_agent.errors import ConfigError, StoreError
from edge_agent.ota.effects import write_overlay
from edge_agent.ota.options import REMOTE_SECTIONS
from edge_agent.ota.ring import MAX_CONFIG_BYTES

BASE = """\
sources:
  bus: {type: mqtt, host: broker, username: u, password: '${env:PW}', subscriptions: [{topic: 'a/{b}'}]}
  plc: {type: modbus, host: 10.0.0.5, devices: [{registers: [{name: level, address: 0}]}]}
sinks:
  hook: {type: webhook, url: 'https://a.example/x', signing_key: a-secret-key}
sensors:
  LIT101: {min: 0, max: 10, unit: mm}
  "*": {stuck_after: 5m}
decision: {false_alarms: 1 per day}
rules:
  high: {sensors: [LIT101], limit: {above: 9}}
graph: {edges: [[a, b], [b, c]]}
"""
LABEL = "config of release spring"
SOME = "ota: {remote_config: [sensors, rules, sources, sinks, graph, patterns]}\n"


def laid(overlay: str, base: str = BASE) -> AgentConfig:
    return parse_config(base, Path("/gateway/agent.yaml"), {"PW": "pass"}, overlay=Overlay(overlay.encode(), LABEL))


def refused(overlay: str, base: str = BASE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        laid(overlay, base)
    return list(caught.value.problems)


# -- merging ---------------------------------------------------------------------------------------------------

RFC_7396 = [  # Appendix A
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("base", "patch", "result"), RFC_7396)
def test_merging_gives_what_the_rfc_says(base: Any, patch: Any, result: Any) -> None:
    assert merge_patch(base, patch) == result


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
mappings = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(mappings, mappings)
def test_laid_over_twice_is_laid_over_once(base: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(base, patch)
    assert merge_patch(once, patch) == once
    assert merge_patch(base, {}) == base


def test_an_overlay_of_nothing_is_the_base() -> None:
    base = parse_config(BASE, Path("/gateway/agent.yaml"), {"PW": "pass"})
    for nothing in ("", "# nothing\n", "null", "{}", "sensors: {}\n"):
        assert laid(nothing) == base


def test_mappings_merge_null_removes_and_the_rest_replaces() -> None:
    config = laid(
        "sensors: {LIT101: {max: 20, unit: null}}\n"
        "decision: {false_alarms: 2 per day}\n"
        "rules: {high: null, low: {sensors: [LIT101], limit: {below: 1}}}\n"
        "graph: {edges: [[x, y]]}\n"
    )
    assert (config.sensors["LIT101"].min, config.sensors["LIT101"].max, config.sensors["LIT101"].unit) == (0, 20, None)
    assert list(config.sensors) == ["LIT101", "*"]
    assert config.decision.false_alarms == pytest.approx(2 / 86_400)
    assert list(config.rules) == ["low"]
    assert config.graph.edges == (("x", "y"),)
    assert config.layers.overlay is not None
    assert config.layers.text == BASE


def test_a_section_that_is_removed_has_its_defaults() -> None:
    assert laid("decision: null").decision.false_alarms == pytest.approx(1 / 604_800)


# -- what it must not have -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "section", ["agent", "tick", "intake", "model", "ota", "uplinks", "api", "telemetry", "history"]
)
def test_sections_that_never_come_over_the_air(section: str) -> None:
    own = "can never come over the air; it is set in the gateway's own file only"
    assert refused(f"\n{section}: {{}}") == [f"{LABEL}: line 2: {section}: {own}"]
    with pytest.raises(ConfigError, match=f"got '{section}', expected some of sensors, graph"):
        parse_config(BASE + f"ota: {{remote_config: [{section}]}}", Path("a.yaml"), {"PW": "p"})


def test_only_sections_that_the_gateway_lists_are_taken() -> None:
    listed = "may not come over the air here; `ota.remote_config` of this gateway has"
    assert refused("sources: {plc: null}") == [f"{LABEL}: line 1: sources: {listed} {', '.join(REMOTE_SECTIONS)}"]
    assert refused("drift: {}", BASE + SOME) == [
        f"{LABEL}: line 1: drift: {listed} sensors, rules, sources, sinks, graph, patterns"
    ]
    assert refused("rules: {}", BASE + "ota: {remote_config: []}\n") == [f"{LABEL}: line 1: rules: {listed} none"]
    assert refused("rulez: {}") == [f"{LABEL}: line 1: rulez: is not a section; did you mean 'rules'?"]


@pytest.mark.parametrize("reference", ["${env:PW}", "${file:/etc/shadow}", "${credential:x}", "a${env:PW", "$${x}"])
def test_references_are_not_followed(reference: str) -> None:
    for overlay in (
        f"rules: {{high: {{message: '{reference}'}}}}",
        f"sensors:\n  x: {{area: '{reference}'}}",
        f"graph: {{edges: [[a, '{reference}']]}}",
        f"sensors: {{LIT101: {{states: {{on: '{reference}'}}}}}}",
    ):
        [problem] = refused(overlay)
        assert "has a reference (`${`), which is only followed in the gateway's own file" in problem
        assert "pass" not in problem


@pytest.mark.parametrize(
    ("overlay", "where"),
    [
        ("graph: {edges_file: /etc/passwd}", "line 1: graph.edges_file"),
        ("patterns:\n  file: ../x", "line 2: patterns.file"),
    ],
)
def test_files_are_not_named(overlay: str, where: str) -> None:
    assert refused(overlay, BASE + SOME) == [
        f"{LABEL}: {where}: is a path; files are named in the gateway's own file only"
    ]


@pytest.mark.parametrize(
    "overlay",
    [
        "sources: {bus: {host: evil.example}}",
        "sources: {bus: {password: null}}",
        "sources: {plc: {devices: [{map: /etc/shadow}]}}",
        "sources: {plc: {type: mqtt}}",
        "sinks: {hook: {url: 'https://evil.example'}}",
        "sinks: {hook: {start: fail}}",
        "sinks: {hook: {template: x}}",
    ],
)
def test_connections_are_not_changed(overlay: str) -> None:
    [problem] = refused(overlay, BASE + SOME)
    assert "is set in the gateway's own file only; what may come over the air: " in problem


def test_connections_are_not_made_but_may_be_given_up() -> None:
    for overlay in (
        "sinks: {out: {type: file, path: /etc/cron.d/x}}",
        "sources: {new: {type: mqtt, host: b, tls: {ca_file: x}}}",
        "sinks: {new: 7}",
    ):
        [problem] = refused(overlay, BASE + SOME)
        assert problem.endswith(": is not in the gateway's own file; connections are made there only")
    assert list(laid("sources: {bus: null}", BASE + SOME).sources) == ["plc"]
    assert laid("sinks: null", BASE + SOME).sinks == {}
    assert refused("sources: null", BASE + SOME)[0].startswith(f"{LABEL}: line 1: sources: is empty, expected at least")


def test_of_connections_what_all_of_them_have_may_change() -> None:
    config = laid("sinks: {hook: {severity: high}}\nsources: {bus: {rename: {a: b}, prefix: x.}}", BASE + SOME)
    assert config.sinks["hook"].severity.value == "high"
    assert (config.sources["bus"].prefix, config.sources["bus"].rename) == ("x.", {"a": "b"})
    assert config.sources["bus"].password.reveal() == "pass"  # type: ignore[attr-defined]


# -- hostile text ----------------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{name}'] * 9)}]\n" for name, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        (b"rules: [", "line 1: not YAML"),
        (b"rules:\n\thigh: 1", "line 2: got a tab"),
        (BOMB.encode(), "more than 200000 values"),
        (b"sensors: &a {x: *a}", "nested deeper than 64"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b"rules: {}\nrules: {}", "line 2: rules: is given twice (first on line 1)"),
        (b"rules: !!python/object/apply:os.system [x]", "line 1: rules: got the tag"),
        (b"[1]", "line 1: got a list, expected sections: sensors"),
        (b"rules: 7", "line 1: rules: got a number, expected a mapping"),
        (b"rules: {}\nx: \xff", "line 2: not UTF-8 text (byte 0xff)"),
        (b"\x00", "not YAML"),
        (b"#" * (MAX_CONFIG_BYTES + 1), f"got more than {MAX_CONFIG_BYTES} bytes"),
        (b"sensors: {1: {min: .nan}, [a]: {}}", "got a list or mapping as option name"),
    ],
)
def test_hostile_text_is_refused_with_its_place(overlay: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(BASE, Path("a.yaml"), {"PW": "p"}, overlay=Overlay(overlay, LABEL))
    assert all(problem.startswith(LABEL) for problem in caught.value.problems)
    assert said in str(caught.value)


@given(st.binary(max_size=60) | st.text(alphabet="rules: {}[]&*!|>-\n'\"$#,hig", max_size=60).map(str.encode))
def test_any_bytes_are_taken_or_refused_by_name(content: bytes) -> None:
    problems: tuple[str, ...] = ()
    try:
        parse_config(BASE, Path("a.yaml"), {"PW": "p"}, overlay=Overlay(content, LABEL))
    except ConfigError as error:
        problems = error.problems
    assert all(problem.startswith(LABEL) for problem in problems)


# -- mistakes and their lines ----------------------------------------------------------------------------------


def test_mistakes_are_told_with_the_line_of_the_overlay() -> None:
    overlay = "\nsensors:\n  LIT101:\n    maxx: 3\nrules:\n  high:\n    when: LIT101 >\n  low: {limit: {above: x}}\n"
    assert refused(overlay) == [
        f"{LABEL}: line 4: sensors.LIT101.maxx: is not an option here; did you mean 'max'?",
        f"{LABEL}: line 7: rules.high.when:1:9: got the end, expected a sensor, a number or `(`",
        f"{LABEL}: line 8: rules.low.limit.above: got 'x', expected a number",
    ]


def test_what_only_shows_beside_the_base_is_told_of_the_overlay() -> None:
    assert refused("sensors:\n  LIT101:\n    max: -1") == [
        f"{LABEL}: line 2: sensors.LIT101: min is 0 and max is -1, expected min below max"
    ]
    base = BASE + "tick: {period: 10s}\n"
    [problem] = refused("sensors:\n  '*':\n    stuck_after: 5s", base)
    assert problem.startswith(f"{LABEL}: line 3: sensors.*.stuck_after: got 5s, which is shorter than tick.period")


def test_what_does_not_fit_any_more_is_told_with_the_place_in_the_base() -> None:
    base = BASE.replace("unit: mm", "area: cell").replace(
        "decision: {", "decision: {maintenance: [{begins: '0 6 * * SUN', duration: 1h, name: w, areas: [cell]}], "
    )
    [problem] = refused("sensors: {LIT101: {area: null}}", base)
    assert problem.startswith(f"{LABEL}: does not fit /gateway/agent.yaml:9: decision.maintenance[0].areas[0]: got ")


def test_a_base_with_mistakes_is_not_mended_by_an_overlay() -> None:
    [problem] = refused("sensors: {LIT101: {max: 30}}", BASE.replace("max: 10", "max: -5"))
    assert problem.startswith("/gateway/agent.yaml:7: sensors.LIT101: min is 0")


def test_options_without_effect_and_what_is_lost_are_told() -> None:
    config = laid("sensors: {LIT101: {max: 20, min: null}}\nrules: {high: null}\ndecision: {cooldown: 1m}")
    assert overruled_options(config.layers) == ["sensors.LIT101.min", "sensors.LIT101.max", "rules.high"]
    base = laid("")
    assert less_watchful(base, config) == [
        "rules.high is gone",
        "sensors.LIT101 has no min",
        "sensors.LIT101 has a wider max",
    ]
    assert less_watchful(base, base) == []
    worse = laid(
        "decision: {false_alarms: 1 per month, min_duration: 30s,\n"
        "  maintenance: [{begins: '* * * * *', duration: 1h, name: w}]}\n"
        "sensors: {LIT101: {monitor: false}, new: {monitor: false}}\nrules: {high: {enabled: false}}\n"
        "drift: {enabled: false}\ncompanions: {enabled: false}\npatterns: {enabled: false}"
    )
    assert [words.partition(" ")[0] for words in less_watchful(base, worse)] == [
        "rules.high",
        "sensors.LIT101",
        "sensors.new",
        "sensors.new",
        "decision.false_alarms",
        "decision.min_duration",
        "decision.maintenance",
        "drift",
        "companions",
        "patterns",
    ]


@pytest.mark.parametrize(
    ("sensor", "lost"),
    [
        ("{scale: 1e-300}", "another scale"),
        ("{max: 1e300}", "a wider max"),
        ("{min: -1e300}", "a wider min"),
        ("{stale_after: 7d}", "a wider stale_after"),
        ("{max: null}", "no max"),
        ("{criticality: low}", "a lower criticality"),  # which lowers the severity, and sinks choose by that
        ("{area: attic}", "another area"),
    ],
)
def test_sensors_are_not_blinded_in_silence(sensor: str, lost: str) -> None:
    own = BASE.replace("unit: mm", "stale_after: 5s")
    config = laid(f"sensors: {{LIT101: {sensor}}}", own)
    assert less_watchful(laid("", own), config) == [f"sensors.LIT101 has {lost}"]


def test_limits_of_a_pattern_are_not_lost_to_a_name_in_silence() -> None:
    config = laid("sensors: {FIT101: {unit: m3/h}}")
    assert less_watchful(laid(""), config) == ["sensors.FIT101 has no stuck_after"]


# -- at the start ----------------------------------------------------------------------------------------------


def gateway(folder: Path, overlay: bytes | None) -> AgentConfig:
    path = folder / "agent.yaml"
    path.write_text(f"agent: {{data_dir: data}}\n{BASE}")
    if overlay is not None:
        file = overlay_path(folder / "data")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(overlay)
    return load_in_use(path, {"PW": "pass"})


def test_the_overlay_in_the_data_folder_is_in_use_at_the_start(tmp_path: Path) -> None:
    assert gateway(tmp_path, None).layers.left_out is None
    config = gateway(tmp_path, b"sensors: {LIT101: {max: 20}}")
    assert config.sensors["LIT101"].max == 20
    assert config.layers.left_out is None


@pytest.mark.parametrize(
    "damage", [b"\x00\xff", b"sensors: [", b"api: {}", b"sensors: {LIT101: {max: -1}}", b"[" * 9999, b"rules: 3"]
)
def test_a_damaged_overlay_is_left_out_at_the_start(tmp_path: Path, damage: bytes) -> None:
    config = gateway(tmp_path, damage)
    assert config.sensors["LIT101"].max == 10
    assert config.layers.overlay is None
    assert config.layers.left_out is not None
    assert config.layers.left_out.startswith("config over the air: ")


def test_an_overlay_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    overlay_path(tmp_path / "data").mkdir(parents=True)
    left_out = gateway(tmp_path, None).layers.left_out
    assert left_out is not None
    assert "cannot be read: Is a directory" in left_out


def test_an_overlay_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    for content, changed in ((b"rules: {}", True), (b"rules: {}", False), (b"sensors: {}", True)):
        assert write_overlay(tmp_path, content) is changed
        assert overlay_path(tmp_path).read_bytes() == content
    for changed in (True, False):
        assert write_overlay(tmp_path, None) is changed
        assert list((tmp_path / "ota").iterdir()) == []
    overlay_path(tmp_path).mkdir()
    with pytest.raises(StoreError, match=r"config\.yaml: cannot be written"):
        write_overlay(tmp_path, b"rules: {}")
