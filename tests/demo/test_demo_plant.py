"""The physics: balances, bounds, rhythm, determinism."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edge_agent.demo.physics import Tank, Wander, approach, pump_flow
from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import generate
from edge_agent.demo.tags import BY_NAME, EDGES, INDEX, NAMES, STAGES, TAGS, Kind, Protocol

LEVELS = ("LIT101", "LIT301", "LIT401", "LIT601", "LIT602")
HOUR = 3600


@pytest.fixture(scope="module")
def two_days() -> np.ndarray:
    return generate(48 * HOUR, seed=7).values


def starts_per_hour(switch: np.ndarray) -> float:
    return float(np.count_nonzero(np.diff(switch) > 0)) / len(switch) * HOUR


def test_there_are_51_tags_in_six_stages_with_unique_names():
    assert len(TAGS) == 51
    assert len(set(NAMES)) == 51
    assert {tag.stage for tag in TAGS} == set(STAGES)


def test_every_protocol_carries_its_share_of_the_tags():
    carried = Counter(tag.protocol for tag in TAGS)
    assert carried[Protocol.MODBUS] == 20
    assert carried[Protocol.COAP_OBSERVE] + carried[Protocol.COAP_POST] == 12
    assert carried[Protocol.MQTT] == 19


def test_edges_join_known_tags_once_and_leave_no_tag_alone():
    assert len(set(EDGES)) == len(EDGES)
    ends = {name for edge in EDGES for name in edge}
    assert ends == set(NAMES)
    assert all(source != target for source, target in EDGES)


def test_same_seed_gives_the_same_bits():
    first, second = (generate(600, seed=3, settle_s=0) for _ in range(2))
    assert first.values.tobytes() == second.values.tobytes()


def test_another_seed_gives_another_plant():
    first, second = (generate(600, seed=seed, settle_s=0) for seed in (3, 4))
    assert not np.array_equal(first.values, second.values)


def test_two_days_stay_inside_the_range_of_every_tag(two_days):
    low = np.array([tag.low for tag in TAGS])
    high = np.array([tag.high for tag in TAGS])
    assert np.isfinite(two_days).all()
    assert (two_days >= low).all()
    assert (two_days <= high).all()


def test_normal_operation_stays_clear_of_the_upper_end_of_every_analogue_range(two_days):
    for tag in TAGS:
        if tag.kind is Kind.SENSOR:
            assert two_days[:, INDEX[tag.name]].max() < tag.low + 0.95 * (tag.high - tag.low), tag.name


def test_every_switch_changes_several_times_an_hour_on_every_day(two_days):
    for tag in TAGS:
        if tag.switch:
            for day in np.split(two_days[:, INDEX[tag.name]], 2):
                assert 2 <= starts_per_hour(day) <= 30, tag.name


def test_levels_swing_with_periods_of_a_few_minutes(two_days):
    for name in LEVELS:
        level = two_days[-2 * HOUR :, INDEX[name]]
        assert level.max() - level.min() > 150, name
    for switch in ("MV101", "MV201", "MV301", "UV401"):
        assert 6 <= starts_per_hour(two_days[:, INDEX[switch]]) <= 30


def test_the_second_day_is_like_the_first(two_days):
    first, second = np.split(two_days, 2)
    spread = first.std(axis=0)
    assert (np.abs(first.mean(axis=0) - second.mean(axis=0)) < 0.35 * spread).all()


def test_backwash_takes_off_the_fouling(two_days):
    pressure = two_days[:, INDEX["DPIT301"]]
    assert pressure.min() < -20
    assert 35 < np.percentile(pressure, 75) < 60


def test_both_pumps_of_a_pair_do_their_share_and_never_run_together(two_days):
    for first, second in (("P101", "P102"), ("P301", "P302"), ("P401", "P402")):
        a, b = two_days[:, INDEX[first]], two_days[:, INDEX[second]]
        assert abs(a.mean() - b.mean()) < 0.05
        assert not np.any((a == 1) & (b == 1))


@pytest.mark.parametrize(
    ("level", "area_m2", "inflow", "outflow"),
    [("LIT101", 0.20, "FIT101", "FIT201"), ("LIT301", 0.15, "FIT201", "FIT301"), ("LIT401", 0.20, "FIT301", "FIT401")],
)
def test_water_is_neither_made_nor_lost(level, area_m2, inflow, outflow):
    plant = Plant(np.random.default_rng(2))
    true = np.array([(plant.step(), plant.true)[1] for _ in range(HOUR)])
    gained_m3 = (true[-1, INDEX[level]] - true[0, INDEX[level]]) / 1000 * area_m2
    flowed_m3 = (true[1:, INDEX[inflow]] - true[1:, INDEX[outflow]]).sum() / 3600
    assert gained_m3 == pytest.approx(flowed_m3, abs=2e-3)  # flows of neighbours are a step apart


def test_what_feeds_the_membrane_leaves_it():
    true = generate(HOUR, seed=2).values
    feed, permeate, reject = (true[:, INDEX[name]] for name in ("FIT501", "FIT502", "FIT503"))
    running = feed > 0.5
    assert np.abs(feed - permeate - reject)[running].max() < 0.12  # noise and resolution of three instruments


def test_instruments_show_multiples_of_their_resolution():
    values = generate(300, seed=1).values
    for tag in TAGS:
        steps = values[:, INDEX[tag.name]] / tag.resolution
        assert np.allclose(steps, np.rint(steps), atol=1e-6), tag.name


def test_noise_has_the_stated_size():
    plant = Plant(np.random.default_rng(5))
    error = np.array([(plant.step() - plant.true)[INDEX["LIT301"]] for _ in range(HOUR)])
    assert error.std() == pytest.approx(BY_NAME["LIT301"].noise, rel=0.1)


@pytest.mark.parametrize("tick_s", [0.1, 0.5, 5.0])
def test_the_plant_keeps_its_rhythm_at_another_tick(tick_s):
    values = generate(HOUR, seed=1, tick_s=tick_s).values
    starts = np.count_nonzero(np.diff(values[:, INDEX["MV301"]]) > 0)
    assert 6 <= starts <= 30


@pytest.mark.parametrize("tick_s", [0.0, -1.0, 61.0])
def test_tick_outside_its_range_is_refused(tick_s):
    with pytest.raises(ValueError, match="plant tick_s: got"):
        Plant(np.random.default_rng(1), tick_s)


def test_a_full_tank_overflows_and_counts_it():
    tank = Tank(1.0, 1149.0, {})
    tank.step(inflow=36.0, outflow=0.0, dt=1.0)
    assert tank.level_mm == 1150.0
    assert tank.overflowed_m3 == pytest.approx(0.009)


def test_an_empty_tank_gives_no_more_than_it_has():
    tank = Tank(1.0, 1.0, {})
    assert tank.available(36.0, 1.0) == pytest.approx(3.6)


def test_a_tank_mixes_what_flows_in():
    tank = Tank(1.0, 1000.0, {"salt": 0.0})
    tank.step(inflow=360.0, outflow=360.0, dt=1.0, feed={"salt": 10.0})
    assert tank.contents["salt"] == pytest.approx(1.0)


def test_pump_and_pipe_agree_on_the_flow():
    flow = pump_flow(head=200.0, static=50.0, linear=10.0, quadratic=20.0)
    assert 50.0 + 10.0 * flow + 20.0 * flow**2 == pytest.approx(200.0)


def test_a_check_valve_lets_nothing_back():
    assert pump_flow(head=40.0, static=50.0, linear=10.0, quadratic=20.0) == 0.0


def test_a_lag_covers_63_percent_in_its_time_constant():
    assert approach(0.0, 1.0, 5.0, 5.0) == pytest.approx(0.632, abs=1e-3)


def test_a_disturbance_stays_within_three_deviations():
    wander = Wander(10.0, 1.0, 5.0, 1.0)
    values = [wander.step(normal) for normal in np.random.default_rng(0).standard_normal(20_000).tolist()]
    assert min(values) >= 7.0
    assert max(values) <= 13.0
    assert np.std(values) == pytest.approx(1.0, rel=0.1)
