"""The demonstration around the plant: configuration, scenario, words, picture, command, and all of it together."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from edge_agent.config import load_config
from edge_agent.decision.decider import Decision
from edge_agent.demo import story
from edge_agent.demo.attacks import ATTACKS
from edge_agent.demo.board import Board
from edge_agent.demo.command import command
from edge_agent.demo.config_file import demo_config
from edge_agent.demo.plant_client import PlantProcess
from edge_agent.demo.scenario import FIRST_AFTER_S, Planned, default_plan, play
from edge_agent.demo.scene_of import scene_of
from edge_agent.demo.speaker import JsonSpeaker, LiveSpeaker, PlainSpeaker
from edge_agent.demo.tags import EDGES, NAMES, TAGS
from edge_agent.demo.view import Scene, render, sparkline
from edge_agent.demo.wiring import Address, Wiring
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.pipeline.engine import TickReport, nothing_scored
from edge_agent.verdict import Contribution, Edge, Incident, IncidentKind, IncidentState, Severity

WIRING = Wiring(
    modbus=Address("127.0.0.1", 1502),
    coap=Address("127.0.0.1", 5700),
    mqtt=Address("127.0.0.1", 1883),
    agent=Address("127.0.0.1", 5683),
)


def incident(state: IncidentState = IncidentState.OPEN, name: str = "01ARZ3NDEKTSV4RRFFQ69G5FAV") -> Incident:
    return Incident(
        id=name,
        kind=IncidentKind.PROCESS,
        state=state,
        severity=Severity.HIGH,
        opened_ns=1_000_000_000,
        updated_ns=43_000_000_000,
        closed_ns=43_000_000_000 if state is IncidentState.CLOSED else None,
        first_tick=1,
        last_tick=42,
        p_value=1e-7,
        score=40.0,
        summary="LIT301 reads 400 mm, expected 650",
        contributions=(Contribution("LIT301", 0.8, 90.0, 400.0, 650.0, "mm", "reads 400 mm, expected 650 mm"),),
        broken_edges=(Edge("LIT301", "FIT201", 0.4),),
        series={"LIT301": [1.0, 2.0]},
    )


def tick_report(*changed: Incident, p_value: float | None = 0.4, unusable: str | None = None) -> TickReport:
    n = len(TAGS)
    usable = np.array([tag.name != unusable for tag in TAGS])
    value = np.array([tag.low + 0.5 * (tag.high - tag.low) for tag in TAGS])
    zeros = np.zeros(n, np.float32)
    snapshot = Snapshot(7, 0, 1, NAMES, value, zeros, np.zeros(n, np.int32), usable, np.full((n, 2), -1))
    scores = nothing_scored(snapshot)
    scores.score[NAMES.index("LIT301")] = 90.0
    scores.score[NAMES.index("FIT201")] = 12.0
    decision = Decision(1.5, p_value, bool(changed), None, changed, p_value is None)
    stages = (100_000, 200_000, 300_000, 400_000)
    return TickReport(7, 0, snapshot, scores, decision, (), stages, False, scores, 250_000)


def started(name: str) -> dict[str, object]:
    attack = ATTACKS[name]
    return {
        "event": "attack_started",
        "attack": name,
        "description": attack.description,
        "affected": list(attack.affected),
        "duration_s": attack.duration_s,
        "magnitude": attack.magnitude,
    }


def drawn(scene: Scene, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(scene))
    console.file.close()
    return console.export_text()


class TestConfiguration:
    def test_it_is_valid_and_knows_every_tag_and_edge(self, tmp_path):
        path = tmp_path / "agent.yaml"
        path.write_text(demo_config(WIRING, tmp_path, 8470, 1.0))
        config = load_config(path)
        assert set(config.sensors) == set(NAMES)
        for tag in TAGS:
            options = config.sensors[tag.name]
            assert (options.unit or "", options.min, options.max) == (tag.unit, tag.low, tag.high)
        assert config.graph.edges == EDGES
        assert {options.type for options in config.sources.values()} == {"mqtt", "coap", "modbus"}
        assert config.agent.data_dir == tmp_path / "data"

    def test_a_faster_plant_gets_a_faster_tick(self, tmp_path):
        path = tmp_path / "agent.yaml"
        path.write_text(demo_config(WIRING, tmp_path, 8470, 0.1))
        config = load_config(path)
        assert config.tick.period == pytest.approx(0.1)
        assert config.intake.stale_after == pytest.approx(5.0)

    def test_a_folder_with_quotes_and_spaces_survives(self, tmp_path):
        folder = tmp_path / 'a "b" c'
        path = tmp_path / "agent.yaml"
        path.write_text(demo_config(WIRING, folder, 8470, 1.0))
        assert load_config(path).agent.data_dir == folder / "data"


class TestScenario:
    def test_the_default_shows_every_attack_once(self):
        plan = default_plan()
        assert {planned.attack.name for planned in plan} == set(ATTACKS)
        assert len(plan) == len(ATTACKS)

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("relpay", "did you mean 'replay'"),
            ("replay@soon", "expected NAME or NAME@SECONDS"),
            ("replay@", "expected"),
        ],
    )
    def test_a_wrong_attack_is_refused(self, text, part):
        with pytest.raises(ConfigError, match=part):
            Planned.parse(text)

    async def test_a_timed_attack_starts_at_its_second(self):
        board, said = Board(), []
        playing = asyncio.create_task(play([Planned.parse("leak@3")], board, said.append, for_ever=False))
        for expected in ([], [], ["attack leak"]):
            await self._tick(board)
            assert said == expected
        await playing

    async def test_the_next_attack_waits_until_the_incident_of_the_last_is_closed(self):
        board, said = Board(), []
        plan = [Planned.parse("leak"), Planned.parse("bias")]
        playing = asyncio.create_task(play(plan, board, said.append, for_ever=False))
        await self._ticks(board, FIRST_AFTER_S)
        assert said == ["attack leak"]
        board.attack_started(started("leak"))
        await self._tick(board, incident())
        await self._ticks(board, 25)
        assert said == ["attack leak", "stop leak"]
        board.attack_ended()
        await self._ticks(board, 100)
        assert said == ["attack leak", "stop leak"]
        await self._tick(board, incident(IncidentState.CLOSED))
        await self._ticks(board, 25)
        assert said[2:] == ["attack bias"]
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)

    async def _ticks(self, board: Board, count: int) -> None:
        for _ in range(count):
            await self._tick(board)

    async def _tick(self, board: Board, *changed: Incident) -> None:
        await asyncio.sleep(0)
        board.observe(tick_report(*changed))
        for _ in range(3):
            await asyncio.sleep(0)


class TestWords:
    def test_an_opened_incident_names_its_sensors_and_what_the_attack_touches(self):
        board = Board()
        board.attack_started(started("spoofed-level"))
        board.observe(tick_report(incident()))
        said = story.incident_changed(incident(), board)
        assert said is not None
        assert "[high] LIT301 reads 400 mm" in said.head
        assert said.more == (
            " 80% LIT301 (Level of ultrafiltration feed tank T301): reads 400 mm, expected 650 mm",
            "no longer fit together: FIT201→LIT301",
            "names what spoofed-level touches: LIT301",
        )
        assert said.body["incident"]["severity"] == "high"

    def test_an_update_is_not_worth_a_line(self):
        assert story.incident_changed(incident(IncidentState.UPDATED), Board()) is None

    def test_a_closed_incident_says_how_long_it_lasted(self):
        said = story.incident_changed(incident(IncidentState.CLOSED), Board())
        assert said is not None
        assert said.head == "INCIDENT CLOSED 9G5FAV, 42 s after it began"

    def test_the_end_of_an_attack_says_when_it_was_found(self):
        board = Board()
        board.attack_started(started("leak"))
        for _ in range(4):
            board.observe(tick_report())
        board.observe(tick_report(incident()))
        said = story.attack_ended({"attack": "leak"}, board.attack_ended())
        assert said.head == "ATTACK OVER leak: found after 5 s"
        assert said.body["found_after_s"] == 5
        assert (board.found, board.attacks) == (1, 1)

    def test_an_attack_that_nobody_saw_is_admitted(self):
        board = Board()
        board.attack_started(started("leak"))
        said = story.attack_ended({"attack": "leak"}, board.attack_ended())
        assert "no incident was opened" in said.head

    def test_an_incident_open_before_the_attack_does_not_count_as_found(self):
        board = Board()
        board.observe(tick_report(incident()))
        board.attack_started(started("leak"))
        board.observe(tick_report(incident(IncidentState.UPDATED)))
        assert board.attack is not None
        assert board.attack.found_tick is None


class TestPicture:
    def scene(self, *changed: Incident) -> Scene:
        board = Board()
        board.attack_started(started("spoofed-level"))
        board.observe(tick_report(*changed, unusable="AIT201"))
        scene = scene_of(board, "universal 1", "http://127.0.0.1:8470")
        assert scene is not None
        return scene

    def test_there_is_nothing_to_draw_before_the_first_tick(self):
        assert scene_of(Board(), "", "") is None

    def test_a_wide_terminal_shows_every_tag(self):
        text = drawn(self.scene(incident()), 140)
        assert all(name in text for name in NAMES)
        assert "ATTACK" in text
        assert "● [high] LIT301 reads 400 mm" in text
        assert "tick 1 in 1.00 ms" in text
        assert "universal 1" in text

    def test_a_narrow_terminal_shows_the_worst_tags_of_each_stage(self):
        text = drawn(self.scene(incident()), 80)
        assert "LIT301" in text
        assert "AIT201" in text
        assert "LIT601" in text
        assert max(map(len, text.splitlines())) <= 80

    def test_heat_follows_the_score(self):
        readings = {reading.name: reading for stage in self.scene().stages for reading in stage.readings}
        assert readings["LIT301"].heat == 2
        assert readings["FIT201"].heat == 1
        assert readings["LIT101"].heat == 0
        assert readings["AIT201"].heat is None
        assert readings["AIT201"].text == "–"
        assert readings["P101"].text == "on"

    def test_a_quiet_plant_says_so(self):
        quiet = replace(self.scene(), attack=None, incidents=())
        text = drawn(quiet, 140)
        assert "no attack is running" in text
        assert "no incidents" in text

    def test_surprise_grows_with_smaller_p_values(self):
        assert sparkline([None, 1.0, 1e-3, 1e-6, 0.0]) == "·▁▅██"

    def test_the_live_speaker_prints_happenings_above_the_picture(self):
        console = Console(width=140, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
        with LiveSpeaker(console) as speaker:
            speaker.draw(self.scene())
            speaker.tell(story.attack_started(started("leak")))
        console.file.close()
        assert "ATTACK leak: Tank T401 bursts a pipe" in console.export_text()

    def test_plain_lines_carry_the_explanation(self):
        lines: list[str] = []
        with PlainSpeaker(lines.append, status_every=1) as speaker:
            speaker.tell(story.attack_started(started("leak")))
            speaker.draw(self.scene())
        assert "ATTACK leak: Tank T401 bursts a pipe" in lines[0]
        assert "touches LIT401" in lines[1]
        assert "tick 1 in 1.00 ms, p 0.4" in lines[2]

    def test_json_lines_are_json(self):
        lines: list[str] = []
        with JsonSpeaker(lines.append) as speaker:
            speaker.tell(story.attack_started(started("leak")))
        line = json.loads(lines[0])
        assert line["event"] == "attack_started"
        assert line["affected"] == ["LIT401"]
        assert line["time"].endswith("Z")


class TestCommand:
    def test_attacks_are_listed_from_the_registry(self):
        result = CliRunner().invoke(command, ["--list-attacks"])
        assert result.exit_code == 0
        for attack in ATTACKS.values():
            assert attack.name in result.output
            assert attack.description in result.output

    def test_attacks_are_listed_as_json(self):
        result = CliRunner().invoke(command, ["--json", "--list-attacks"])
        assert [entry["name"] for entry in json.loads(result.output)] == list(ATTACKS)

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (["--attack", "relpay"], "did you mean 'replay'"),
            (["--attack", "replay@x"], "expected NAME or NAME@SECONDS"),
            (["--broker", "nowhere"], "expected host:port"),
            (["--speed", "0"], "0.1"),
            (["--warmup", "-1"], "0"),
            (["--seconds", "0"], "1"),
            (["--port", "70000"], "65535"),
        ],
    )
    def test_wrong_options_are_refused_with_exit_code_2(self, arguments, part):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 2
        assert part in result.output

    def test_a_plant_that_cannot_start_is_one_sentence(self, tmp_path):
        async def start() -> None:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                plant = await PlantProcess.start("--modbus-port", str(taken.getsockname()[1]), log=tmp_path / "log")
                try:
                    await plant.ready()
                finally:
                    await plant.stop()

        with pytest.raises(EdgeAgentError, match="did not start \\(exit code 1\\)"):
            asyncio.run(start())
        assert "cannot listen" in (tmp_path / "log").read_text()


def run_demo(tmp_path: Path, *options: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "demo", "--json", "--data-dir", str(tmp_path), *options],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_silent_device_is_found_over_real_sockets_and_the_demo_stops_when_told(tmp_path):
    told = run_demo(tmp_path, "--speed", "10", "--seconds", "80", "--attack", "dropout@3", "--warmup", "1200")
    events = [line["event"] for line in told]
    assert events[:2] == ["starting", "plant"]
    assert events[-1] == "stopped"
    assert "not_connected" not in events
    opened = [line["incident"] for line in told if line["event"] == "incident_opened"]
    quality = [one for one in opened if one["kind"] == "data_quality"]
    named = {part["sensor"] for one in quality for part in one["sensors"]}
    assert named == set(ATTACKS["dropout"].affected)
    assert events.index("attack_started") < events.index("incident_opened")
    assert (tmp_path / "incidents.jsonl").read_text().count('"data_quality"') >= 1
    assert load_config(tmp_path / "agent.yaml").agent.name == "demo-gateway"
