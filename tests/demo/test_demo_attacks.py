"""Attacks do what they say, where they say, while they say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.demo.attacks import ATTACKS, Place, inject
from edge_agent.demo.effects import Past
from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import edges_csv, generate, write_csv
from edge_agent.demo.tags import EDGES, INDEX, NAMES, TAGS
from edge_agent.errors import ConfigError

START_S = 400.0
SETTLE_S = 600.0


class Twin:
    """The same plant with and without one attack."""

    def __init__(self, name: str, duration_s: float = 300.0) -> None:
        self.free = Plant(np.random.default_rng(3))
        self.attacked = Plant(np.random.default_rng(3))
        self.attacked.schedule(inject(name, START_S, duration_s))
        rows = [self._step() for _ in range(int(START_S + duration_s + 60))]
        self.free_reported, self.reported, self.free_true, self.true, self.measured = (
            np.array(column) for column in zip(*rows, strict=True)
        )
        self.during = slice(int(START_S), int(START_S + duration_s))

    def _step(self) -> tuple[np.ndarray, ...]:
        free, attacked = self.free.step(), self.attacked.step()
        return free, attacked, self.free.true, self.attacked.true, self.attacked.measured


@pytest.fixture(scope="module")
def twins() -> dict[str, Twin]:
    return {name: Twin(name) for name in ATTACKS}


def differs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ~np.isclose(first, second, rtol=0, atol=1e-12, equal_nan=True)


def test_there_are_at_least_twelve_attacks_and_they_touch_known_tags():
    assert len(ATTACKS) >= 12
    for attack in ATTACKS.values():
        assert set(attack.affected) <= set(NAMES)
        assert attack.affected
        assert attack.places
        assert attack.duration_s > 0
        assert attack.description[0].isupper()


def test_every_stage_suffers_something():
    assert {attack.stage for attack in ATTACKS.values()} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_changes_before_the_attack(twins, name):
    before = slice(0, int(START_S))
    assert not differs(twins[name].free_reported[before], twins[name].reported[before]).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_changes_a_tag_it_names(twins, name):
    twin = twins[name]
    changed = differs(twin.free_reported[twin.during], twin.reported[twin.during]).any(axis=0)
    assert changed[[INDEX[tag] for tag in ATTACKS[name].affected]].any()


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.places == {Place.REPORT}])
def test_a_false_report_changes_only_the_reports_of_its_tags(twins, name):
    twin = twins[name]
    assert not differs(twin.free_true, twin.true).any()
    elsewhere = [index for index, tag in enumerate(NAMES) if tag not in ATTACKS[name].affected]
    assert not differs(twin.free_reported[:, elsewhere], twin.reported[:, elsewhere]).any()
    assert not differs(twin.free_reported[twin.during.stop :], twin.reported[twin.during.stop :]).any()


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.places == {Place.INSTRUMENTS}])
def test_a_false_instrument_first_shows_at_its_own_tags(twins, name):
    twin = twins[name]
    first = int(np.argmax(differs(twin.free_reported, twin.reported).any(axis=1)))
    changed = {NAMES[i] for i in np.flatnonzero(differs(twin.free_reported[first], twin.reported[first]))}
    assert changed <= set(ATTACKS[name].affected)
    assert np.array_equal(twin.reported, twin.measured, equal_nan=True)


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if Place.PROCESS in attack.places])
def test_an_attack_on_the_process_changes_what_really_happens(twins, name):
    twin = twins[name]
    assert differs(twin.free_true[twin.during], twin.true[twin.during]).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_reports_stay_within_the_range_of_the_instrument(twins, name):
    reported = twins[name].reported
    low = np.array([tag.low for tag in TAGS])
    high = np.array([tag.high for tag in TAGS])
    assert not (reported < low).any()
    assert not (reported > high).any()


@pytest.mark.parametrize("name", ATTACKS)
def test_the_plant_finds_back_to_its_rhythm(name):
    values = generate(5400, seed=5, attacks=[inject(name, 300)], settle_s=300).values[-3600:]
    assert np.isfinite(values).all()
    for switch in ("MV101", "MV301", "UV401"):
        assert 6 <= np.count_nonzero(np.diff(values[:, INDEX[switch]]) > 0) <= 30


def test_a_spoofed_level_makes_the_controller_overfill_the_tank(twins):
    twin = twins["spoofed-level"]
    level = INDEX["LIT301"]
    assert twin.true[:, level].max() > twin.free_true[:, level].max() + 100
    assert twin.reported[:, level].max() < twin.true[:, level].max() - 100


def test_the_multi_stage_attack_ends_in_an_overflow(twins):
    assert twins["multi-stage"].attacked.process.raw.tank.overflowed_m3 > 0.01
    assert twins["multi-stage"].free.process.raw.tank.overflowed_m3 == 0.0


def test_replay_repeats_the_plants_own_past(twins):
    twin = twins["replay"]
    delay = int(ATTACKS["replay"].magnitude)
    stage = [INDEX[name] for name in ATTACKS["replay"].affected]
    tick = int(START_S + 200)
    assert tick > delay
    assert np.array_equal(twin.reported[tick, stage], twin.free_reported[tick - delay, stage])


def test_a_stale_plc_does_not_move(twins):
    twin = twins["stale-plc"]
    stage = [INDEX[name] for name in ATTACKS["stale-plc"].affected]
    assert np.ptp(twin.reported[twin.during, stage], axis=0).max() == 0.0


def test_dropout_reports_nothing(twins):
    twin = twins["dropout"]
    gone = np.isnan(twin.reported[twin.during]).all(axis=0)
    assert {NAMES[i] for i in np.flatnonzero(gone)} == set(ATTACKS["dropout"].affected)


def test_a_failed_pump_still_reports_to_run(twins):
    twin = twins["pump-failure"]
    last = twin.true[twin.during][-100:]
    assert last[:, INDEX["P501"]].max() > 50
    assert last[:, INDEX["PIT501"]].max() < 500


def test_swapped_sensors_show_each_others_level():
    plant = Plant(np.random.default_rng(3))
    for _ in range(100):
        plant.step()
    plant.start("sensor-swap")
    shown = plant.step()
    assert shown[INDEX["LIT601"]] == pytest.approx(plant.true[INDEX["LIT602"]], abs=10)
    assert shown[INDEX["LIT602"]] == pytest.approx(plant.true[INDEX["LIT601"]], abs=10)


def test_an_attack_can_be_stopped_early():
    plant = Plant(np.random.default_rng(3))
    plant.start("dropout")
    assert np.isnan(plant.step()).any()
    plant.stop("dropout")
    assert np.isfinite(plant.step()).all()
    assert plant.active == ()


def test_the_magnitude_sets_the_strength():
    def spread(magnitude: float) -> float:
        free = generate(300, seed=1).values
        noisy = generate(300, seed=1, attacks=[inject("noise-burst", 0, 300, magnitude)]).values
        return float((noisy - free)[:, INDEX["LIT101"]].std())

    assert spread(60.0) > 4 * spread(10.0)


def test_an_unknown_attack_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match="got 'relpay', which is not known; did you mean 'replay'"):
        inject("relpay", 0)


def test_labels_mark_the_attack_and_affected_its_tags():
    recording = generate(300, seed=1, attacks=[inject("dropout", 100, 50), inject("leak", 120, 10)])
    assert np.flatnonzero(recording.labels).tolist() == list(range(100, 150))
    assert {NAMES[i] for i in np.flatnonzero(recording.affected.any(axis=0))} == {
        *ATTACKS["dropout"].affected,
        "LIT401",
    }
    assert np.isnan(recording.values[100:150, INDEX["AIT201"]]).all()
    assert np.isfinite(recording.values[150:]).all()


def test_a_csv_recording_reads_back(tmp_path):
    recording = generate(120, seed=1, attacks=[inject("dropout", 100, 10)])
    path = tmp_path / "plant.csv"
    write_csv(recording, path, start_ns=1_700_000_000_000_000_000)
    head, *rows = path.read_text().splitlines()
    assert head.split(",") == ["timestamp", *NAMES, "label"]
    assert rows[0].startswith("2023-11-14T22:13:20.000Z,")
    table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(1, 52))
    assert np.allclose(table, recording.values, rtol=1e-6, equal_nan=True)
    assert sum(row.endswith(",1") for row in rows) == 10


def test_the_edge_list_reads_back(tmp_path):
    path = tmp_path / "edges.csv"
    edges_csv(path)
    assert path.read_text().splitlines()[1:] == [f"{a},{b}" for a, b in EDGES]


def test_the_past_gives_its_oldest_row_when_asked_too_far_back():
    past = Past(3, 1)
    for value in range(5):
        past.append(np.array([float(value)]))
    assert past.ago(0)[0] == 4
    assert past.ago(2)[0] == 2
    assert past.ago(100)[0] == 2
