"""Files of patterns: the agent's own is sound, and a mistake in a user's file is told with its line."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from edge_agent.config import load_config
from edge_agent.config.pattern_file import OWN, load_library, own_patterns, parse_patterns
from edge_agent.errors import ConfigError
from edge_agent.patterns.options import PatternOptions
from edge_agent.patterns.words import PatternKind

GOOD = """\
version: 1
techniques:
  T0838: Modify Alarm Settings
patterns:
  - id: tilted
    title: The tank stands tilted
    kind: attack
    techniques: [T0838]
    stages:
      - name: tilted
        conditions:
          - {who: first, does: [rises], of: [level]}
"""


def test_own_patterns_are_read_the_same_way_as_a_users() -> None:
    text = files("edge_agent.patterns").joinpath(OWN).read_text("utf-8")
    assert parse_patterns(text, Path(OWN)) == own_patterns()


def test_own_attacks_are_mapped_and_every_technique_is_named_and_used() -> None:
    own = own_patterns()
    assert len(own.patterns) >= 12
    attacks = [pattern for pattern in own.patterns if pattern.kind is PatternKind.ATTACK]
    assert all(pattern.techniques for pattern in attacks)
    assert {one for pattern in attacks for one in pattern.techniques} == set(own.techniques)
    assert own.attack


def test_a_users_patterns_come_beside_the_agents(tmp_path: Path) -> None:
    found = load_library(PatternOptions(file=_written(tmp_path, GOOD)))
    assert len(found.patterns) == len(own_patterns().patterns) + 1
    assert found.techniques["T0838"] == "Modify Alarm Settings"


def test_a_users_pattern_replaces_the_agents_of_the_same_id(tmp_path: Path) -> None:
    found = load_library(PatternOptions(file=_written(tmp_path, GOOD.replace("id: tilted", "id: leak"))))
    assert [one.title for one in found.patterns if one.id == "leak"] == ["The tank stands tilted"]
    assert len(found.patterns) == len(own_patterns().patterns)


def test_the_page_lists_every_pattern_and_its_example_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "patterns.md").read_text()
    for pattern in own_patterns().patterns:
        assert f"| `{pattern.id}` | {pattern.title} | {pattern.kind} | {', '.join(pattern.techniques)} |" in page
    (example,) = re.findall(r"```yaml\n(version: 1\n.*?)```", page, re.DOTALL)
    assert parse_patterns(example, Path("my-patterns.yaml")).patterns
    assert (Path(__file__).parents[2] / "docs" / "my-patterns.yaml").read_text() == example


def test_patterns_can_be_left_out_and_turned_off() -> None:
    assert "leak" not in [one.id for one in load_library(PatternOptions(disabled=("leak",))).patterns]
    assert load_library(PatternOptions(enabled=False)).patterns == ()


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        (
            "[rises]",
            "[rise]",
            r"own.yaml:12: patterns\[0\].stages\[0\].conditions\[0\].does\[0\]: got 'rise', .*'rises'",
        ),
        ("who: first", "who: frist", r"own.yaml:12: .*who: got 'frist', expected one of first, .*'first'"),
        ("kind: attack", "kind: atack", r"own.yaml:7: patterns\[0\].kind: got 'atack', expected .*'attack'"),
        ("    title:", "    titel:", r"own.yaml:6: patterns\[0\].titel: is not an option here; did you mean 'title'"),
        ("version: 1", "version: 2", r"own.yaml:1: version: got 2, expected a whole number from 1 to 1"),
        ("[T0838]", "[T0839]", r"own.yaml:8: patterns\[0\].techniques\[0\]: got 'T0839', which .* does not name"),
        ("[T0838]", "[838]", r"own.yaml:8: patterns\[0\].techniques\[0\]: got 838, expected"),
        ("kind: attack", "kind: fault", r"own.yaml:5: .*a fault has no techniques; expected `kind: attack`"),
        ("        conditions:", "        matches: [leek]\n        conditions:", r"own.yaml:10: .*has both or none"),
        ("patterns:", "pattern:", r"own.yaml:4: pattern: is not an option here; did you mean 'patterns'"),
        ("version: 1", "\tversion: 1", r"own.yaml:1: got a tab at the start of the line"),
        ("[level]", "[depth]", r"own.yaml:12: .*of\[0\]: got 'depth', expected one of flow, pressure, level"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_nearest_word(
    wrong: str, right: str, message: str, tmp_path: Path
) -> None:
    assert wrong in GOOD
    with pytest.raises(ConfigError) as caught:
        load_library(PatternOptions(file=_written(tmp_path, GOOD.replace(wrong, right, 1))))
    assert any(re.search(message, problem) for problem in caught.value.problems), caught.value.problems


def test_a_pattern_about_incidents_names_known_ones(tmp_path: Path) -> None:
    stage = "about: incidents\n    stages:\n      - name: tilted\n        matches: [leek]\n"
    with pytest.raises(ConfigError, match=r"matches\[0\]: got 'leek', which is no pattern; did you mean 'leak'"):
        load_library(PatternOptions(file=_written(tmp_path, GOOD[: GOOD.index("stages:")] + stage)))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("rises", "rise").replace("attack", "atack")
    with pytest.raises(ConfigError) as caught:
        load_library(PatternOptions(file=_written(tmp_path, text)))
    assert len(caught.value.problems) == 2


def test_checking_a_configuration_tells_of_its_pattern_file(tmp_path: Path) -> None:
    _written(tmp_path, GOOD.replace("rises", "rise"))
    config = tmp_path / "agent.yaml"
    config.write_text("patterns:\n  file: own.yaml\n")
    with pytest.raises(ConfigError, match=r"agent.yaml:2: patterns.file: .*own.yaml:12: .*got 'rise'"):
        load_config(config, sources_required=False)
    config.write_text("patterns:\n  disabled: [leek]\n")
    with pytest.raises(ConfigError, match=r"agent.yaml:2: patterns.disabled: got 'leek', .*did you mean 'leak'"):
        load_config(config, sources_required=False)
    config.write_text("patterns:\n  file: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"gone.yaml cannot be read \(No such file or directory\)"):
        load_config(config, sources_required=False)


def _written(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text)
    return path
