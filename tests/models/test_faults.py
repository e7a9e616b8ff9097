"""Synthetic faults: each kind changes what it says, where it says, and nothing else."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_models.datasets import Entity, LabelledRun
from edge_models.evaluation.suites import Case
from edge_models.faults import KINDS, RELATION_ONLY, SEVERITIES, detection, inject
from edge_models.faults.kinds import CATALOGUE
from edge_models.faults.measure import DETECTORS, table, visibility

ROWS = 3_000
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def plant(rows=ROWS, seed=0):
    """Five sensors: three that follow one slow signal (levels and units differ), noise alone, and a constant."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.normal(size=rows + 9), np.ones(10) / 10**0.5, "valid")
    own = rng.normal(size=(rows, 4))
    related = np.stack([slow + 0.6 * own[:, 0], 40 + 5 * (slow + 0.6 * own[:, 1]), -3 * slow + own[:, 2]], 1)
    return np.concatenate((related, 7 + own[:, 3:], np.full((rows, 1), 9.0)), 1)


@pytest.fixture(scope="module")
def normal():
    return plant(seed=1)


@pytest.fixture(scope="module")
def made(normal):
    return {kind: inject(plant(), kind, np.random.default_rng(3), normal=normal) for kind in KINDS}


def one(kind, severity, values=None, normal=None, seed=0):
    """One fault of this severity: clean and faulty readings of its sensors, and the fault."""
    values = plant() if values is None else values
    found = inject(values, kind, np.random.default_rng(seed), normal=normal, episodes=1, severity=severity)
    (fault,) = found.faults
    where = np.ix_(range(fault.start, fault.stop), fault.sensors)
    return values[where], found.values[where], fault


def spread_of(fault):
    return plant().std(0)[list(fault.sensors)]


def test_there_are_at_least_fourteen_kinds():
    assert len(KINDS) >= 14
    assert set(RELATION_ONLY) < set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_stated_ticks_and_sensors_change(made, kind):
    found, clean = made[kind], plant()
    changed = found.values != clean
    stated, label = np.zeros(clean.shape, bool), np.zeros(len(clean), np.int8)
    assert found.faults
    for fault in found.faults:
        stated[fault.start : fault.stop, list(fault.sensors)] = True
        label[fault.start : fault.stop] = 1
        inside = changed[fault.start : fault.stop]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, list(fault.sensors)].any(0).all()
        assert fault.kind == kind
        assert SEVERITIES[kind][0] <= fault.severity <= SEVERITIES[kind][1]
    assert not changed[~stated].any()
    np.testing.assert_array_equal(found.label, label)
    assert found.label.dtype == np.int8


@pytest.mark.parametrize("kind", KINDS)
def test_length_gap_and_order_are_as_asked(made, kind):
    low, high = {"spike": (1, 4), "stealthy": (96, 240)}.get(kind, (24, 60))
    faults = made[kind].faults
    assert all(fault.stop - fault.start < high for fault in faults)
    assert max(fault.stop - fault.start for fault in faults) >= low
    assert all(after.start - before.stop >= 150 for before, after in pairwise(faults))


@pytest.mark.parametrize("kind", KINDS)
def test_input_is_left_alone_and_the_seed_decides(kind):
    values = plant()
    first = inject(values, kind, np.random.default_rng(5))
    second = inject(values, kind, np.random.default_rng(5))
    other = inject(values, kind, np.random.default_rng(6))
    np.testing.assert_array_equal(values, plant())
    np.testing.assert_array_equal(first.values, second.values)
    assert first.faults == second.faults != other.faults


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dropout"])
def test_sensor_that_never_moves_is_left_out_where_the_fault_would_not_show(made, kind):
    assert all(4 not in fault.sensors for fault in made[kind].faults)


@pytest.mark.parametrize("kind", RELATION_ONLY)
def test_relation_faults_are_put_on_related_sensors_only(made, kind):
    assert {sensor for fault in made[kind].faults for sensor in fault.sensors} <= {0, 1, 2}


@pytest.mark.parametrize("kind", RELATION_ONLY)
def test_relation_faults_look_normal_sensor_by_sensor(made, normal, kind):
    """Level and spread of the faulty readings, in the sensor's own spreads, are those of normal ones."""
    for sensor in (0, 1, 2):
        parts = [made[kind].values[f.start : f.stop, sensor] for f in made[kind].faults if sensor in f.sensors]
        z = (np.concatenate(parts) - normal[:, sensor].mean()) / normal[:, sensor].std()
        assert abs(z.mean()) < 0.6
        assert 0.5 < z.std() < 1.5
        assert np.abs(z).max() < 5


@pytest.mark.parametrize("kind", RELATION_ONLY)
def test_nothing_is_injected_where_nothing_is_related(kind):
    noise = np.random.default_rng(0).normal(size=(900, 3))
    found = inject(noise, kind, np.random.default_rng(0))
    assert found.faults == ()
    assert not found.label.any()
    np.testing.assert_array_equal(found.values, noise)


def test_replay_repeats_normal_readings_in_their_order(normal):
    _, faulty, fault = one("replay", 0.3, normal=normal)
    column = normal[:, fault.sensors[0]]
    windows = np.lib.stride_tricks.sliding_window_view(column, len(faulty))
    assert (windows == faulty[:, 0]).all(1).any()


def test_replay_without_history_takes_what_came_before():
    values = plant()
    found = inject(values, "replay", np.random.default_rng(0))
    for fault in found.faults:
        before = values[: fault.start, fault.sensors[0]]
        assert np.isin(found.values[fault.start : fault.stop, fault.sensors[0]], before).all()


def test_bias_is_constant_in_spreads():
    clean, faulty, fault = one("bias", 2.0)
    np.testing.assert_allclose(np.abs(faulty - clean), 2.0 * spread_of(fault) * np.ones_like(clean))


def test_spike_lasts_three_ticks_at_most():
    clean, faulty, fault = one("spike", 3.0)
    assert len(clean) <= 3
    np.testing.assert_allclose(np.abs(faulty - clean), 3.0 * spread_of(fault) * np.ones_like(clean))


def test_drift_grows_evenly_to_the_severity():
    clean, faulty, fault = one("drift", 3.0)
    change = np.abs(faulty - clean)[:, 0]
    np.testing.assert_allclose(np.diff(change), change[0])
    np.testing.assert_allclose(change[-1], 3.0 * spread_of(fault)[0])


def test_stuck_keeps_the_last_reading():
    values = plant()
    _, faulty, fault = one("stuck", 0.5, values)
    assert len(np.unique(faulty)) == 1
    assert faulty[0, 0] in values[: fault.start, fault.sensors[0]]


def test_noise_has_the_standard_deviation_asked_for():
    changes = []
    for seed in range(10):
        clean, faulty, fault = one("noise", 2.0, seed=seed)
        changes.append((faulty - clean) / spread_of(fault))
    assert np.concatenate(changes).std() == pytest.approx(2.0, rel=0.1)


def test_gain_scales_deviations_from_the_mean():
    values = plant()
    factors = set()
    for seed in range(6):
        clean, faulty, fault = one("gain", 1.0, values, seed=seed)
        mean = values[:, list(fault.sensors)].mean(0)
        factor = (faulty - mean) / (clean - mean)
        np.testing.assert_allclose(factor, factor[0, 0])
        factors.add(round(float(factor[0, 0]), 6))
    assert factors == {0.5, 2.0}


def test_delay_repeats_readings_with_one_lag():
    values = plant()
    _, faulty, fault = one("delay", 0.9, values)
    column = values[:, fault.sensors[0]]
    lags = [lag for lag in range(1, 121) if np.array_equal(column[fault.start - lag : fault.stop - lag], faulty[:, 0])]
    assert len(lags) == 1


def test_longer_delay_for_a_stronger_fault():
    slow = np.cumsum(np.random.default_rng(0).normal(size=(ROWS, 1)), 0) + np.zeros((1, 2))
    slow[:, 1] += np.random.default_rng(1).normal(size=ROWS)
    lag = {}
    for severity in (0.2, 0.6):
        _, faulty, fault = one("delay", severity, slow)
        column = slow[:, fault.sensors[0]]
        lag[severity] = fault.start - int(np.flatnonzero(column == faulty[0, 0])[-1])
    assert lag[0.6] > lag[0.2] >= 1


def test_time_warp_falls_behind_and_never_runs_backwards():
    values = plant()
    _, faulty, fault = one("time_warp", 1.0, values)
    source = [int(np.flatnonzero(values[:, fault.sensors[0]] == reading)[0]) for reading in faulty[:, 0]]
    lag = np.arange(fault.start, fault.stop) - source
    assert (np.diff(source) >= 0).all()
    assert (np.diff(lag) >= 0).all()
    assert lag[-1] > 0


def test_swap_exchanges_two_sensors_in_their_own_units():
    values = plant()
    clean, faulty, fault = one("swap", 0.3, values)
    mean, spread = values.mean(0)[list(fault.sensors)], spread_of(fault)
    np.testing.assert_allclose((faulty - mean) / spread, ((clean - mean) / spread)[:, ::-1], atol=1e-9)


def test_dropout_loses_the_share_asked_for():
    lost = [np.isnan(one("dropout", 0.4, seed=seed)[1]).mean() for seed in range(30)]
    assert np.mean(lost) == pytest.approx(0.4, abs=0.1)
    assert np.isnan(one("dropout", 1.0)[1]).all()


def test_dropout_hits_constant_sensors_too():
    found = [one("dropout", 0.5, seed=seed)[2].sensors for seed in range(30)]
    assert (4,) in found


def test_clipping_holds_readings_at_one_limit():
    clean, faulty, _ = one("clipping", 1.0)
    changed = faulty != clean
    limit = np.unique(faulty[changed])
    assert len(limit) == 1
    kept = clean[~changed]
    assert (kept <= limit).all() or (kept >= limit).all()


def test_oscillation_has_the_amplitude_asked_for():
    clean, faulty, fault = one("oscillation", 1.5)
    change = np.abs(faulty - clean) / spread_of(fault)
    assert change.max() <= 1.5 + 1e-9
    assert change.max() > 1.2


def test_quantised_readings_are_multiples_of_the_severity():
    _, faulty, fault = one("quantisation", 1.0)
    multiple = faulty / spread_of(fault)
    np.testing.assert_allclose(multiple, np.round(multiple), atol=1e-9)


def test_common_shift_moves_several_sensors_in_one_direction():
    clean, faulty, fault = one("common_shift", 1.0)
    change = (faulty - clean) / spread_of(fault)
    assert len(fault.sensors) >= 2
    np.testing.assert_allclose(change, change[0, 0] * np.ones_like(change))


def test_decorrelation_keeps_the_very_readings():
    clean, faulty, _ = one("decorrelation", 0.3)
    np.testing.assert_array_equal(np.sort(faulty, 0), np.sort(clean, 0))
    assert not np.array_equal(faulty, clean)


def test_decorrelation_keeps_how_fast_the_readings_change():
    """Correlation of each reading with the one before; shuffled readings would have none."""

    def persistence(column):
        centred = column - column.mean()
        return (centred[1:] * centred[:-1]).sum() / (centred**2).sum()

    found = inject(plant(9_000), "decorrelation", np.random.default_rng(0), normal=plant())
    clean = plant(9_000)
    pairs = [
        (persistence(values[f.start : f.stop, f.sensors[0]]) for values in (clean, found.values)) for f in found.faults
    ]
    before, after = np.mean([tuple(pair) for pair in pairs], axis=0)
    assert before > 0.2
    assert after == pytest.approx(before, abs=0.1)


def test_intermittent_bias_comes_and_goes():
    clean, faulty, fault = one("intermittent", 2.0)
    change = np.abs(faulty - clean)[:, 0] / spread_of(fault)[0]
    present = change > 1.0
    assert present[0]
    assert present[-1]
    assert not present.all()
    np.testing.assert_allclose(change[present], 2.0)


def test_stealthy_attack_stays_within_the_usual_range_and_jumps_nowhere():
    values = plant()
    clean, faulty, fault = one("stealthy", 2.0, values)
    low, high = np.quantile(values[:, list(fault.sensors)], (0.01, 0.99), axis=0)
    outside = (faulty < low) | (faulty > high)
    centre = (low + high) / 2
    assert (np.abs(faulty - centre)[outside] <= np.abs(clean - centre)[outside]).all()
    assert np.abs(faulty - clean)[:5].max() < 0.05 * spread_of(fault)[0]
    assert len(clean) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_missing_stays_missing(kind):
    values = plant()
    gone = np.random.default_rng(9).random(values.shape) < 0.1
    values[gone] = np.nan
    found = inject(values, kind, np.random.default_rng(0))
    assert found.faults
    assert np.isnan(found.values[gone]).all()
    if kind != "dropout":
        assert np.isfinite(found.values[~gone]).all()


def test_never_heard_sensors_are_not_chosen():
    values = plant()
    values[:, 1:4] = np.nan
    for kind in ("bias", "dropout"):
        sensors = {s for f in inject(values, kind, np.random.default_rng(0)).faults for s in f.sensors}
        assert sensors <= {0, 4}


def test_plant_that_never_moves_gets_no_bias():
    assert inject(np.full((900, 3), 5.0), "bias", np.random.default_rng(0)).faults == ()


def test_no_more_episodes_than_asked_for():
    assert len(inject(plant(), "bias", np.random.default_rng(0), episodes=2).faults) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "biass"}, "kind: got 'biass', which is no kind of fault; did you mean 'bias'?"),
        ({"kind": "#"}, "kind: got '#', which is no kind of fault; expected one of spike, bias"),
        ({"values": np.zeros(500)}, "values: got shape (500,), expected [ticks, sensors]"),
        ({"values": np.zeros((500, 0))}, "values: got shape (500, 0), expected [ticks, sensors]"),
        ({"values": plant(300)}, "values: got 300 ticks, expected at least 360 for one gap and one fault"),
        ({"normal": plant(30)}, "normal: got 30 ticks, expected at least 60 for one fault"),
        ({"normal": plant()[:, :3]}, "normal: got 3 sensors, expected 5 as in values"),
        ({"values": np.full((500, 5), np.nan)}, "values: every reading is missing, expected readings of normal"),
        ({"severity": 0.0}, "severity of bias: got 0.0, expected a number above 0 (spreads)"),
        ({"severity": np.nan}, "severity of bias: got nan, expected a number above 0 (spreads)"),
        (
            {"kind": "dropout", "severity": 1.5},
            "severity of dropout: got 1.5, expected a number above 0 and at most 1 (share of readings lost)",
        ),
        ({"length": (10, 10)}, "length: got (10, 10), expected (fewest, beyond the most) ticks from 1 on"),
        ({"gap": (0, 10)}, "gap: got (0, 10), expected (fewest, beyond the most) ticks from 1 on"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(change, message):
    given = {"values": plant(), "kind": "bias"} | change
    values, kind = given.pop("values"), given.pop("kind")
    with pytest.raises(ValueError) as error:
        inject(values, kind, np.random.default_rng(0), **given)
    assert str(error.value).startswith(message)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(140, 400),
    sensors=st.integers(1, 6),
    missing=st.sampled_from([0.0, 0.3, 0.95]),
    seed=st.integers(0, 10_000),
)
def test_any_plant_gives_labels_that_cover_all_changes(kind, rows, sensors, missing, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 1)) * rng.normal(size=sensors) + 0.3 * rng.normal(size=(rows, sensors))
    values *= 10.0 ** rng.integers(-6, 7, sensors)
    values[rng.random(values.shape) < missing] = np.nan
    values[0] = 1.0
    found = inject(values, kind, rng, length=(8, 20), gap=(20, 40))
    same = (found.values == values) | (np.isnan(found.values) & np.isnan(values))
    assert same[found.label == 0].all()
    assert (~same).any() == bool(found.faults)
    assert sum(fault.stop - fault.start for fault in found.faults) == found.label.sum()
    assert all(list(fault.sensors) == sorted(set(fault.sensors)) for fault in found.faults)


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(["bias", "drift", "noise", "oscillation"]), severity=st.floats(0.1, 10.0))
def test_change_is_proportional_to_severity(kind, severity):
    clean, faulty, _ = one(kind, severity)
    _, unit, _ = one(kind, 1.0)
    np.testing.assert_allclose(faulty - clean, severity * (unit - clean), rtol=1e-6, atol=1e-9)


def deviation(values):
    """A detector: squared deviation of each sensor from its mean in spreads, missing readings 0."""
    clean = plant()
    alive = np.where(clean.std(0) > 0, clean.std(0), 1.0)
    return np.nan_to_num(((values - clean.mean(0)) / alive) ** 2).astype(np.float32)


def test_detection_tells_what_a_detector_sees_and_names(normal):
    found = {one.kind: one for one in detection(deviation, normal, plant(), 0)}
    assert tuple(found) == KINDS
    assert found["spike"].auroc > 0.7
    assert found["spike"].named > 0.5
    assert abs(found["decorrelation"].auroc - 0.5) < 0.15
    assert all(one.faults > 0 for one in found.values())


def test_detection_on_a_short_held_out_part_uses_short_faults(normal):
    assert all(one.faults > 0 for one in detection(deviation, normal, plant(300), 0, kinds=("bias", "stealthy")))
    assert detection(deviation, normal, plant(119), 0) == ()


def test_detection_says_when_no_fault_could_be_put_in():
    still = np.full((400, 3), 5.0)
    (one,) = detection(deviation, still, still, 0, kinds=("bias",))
    assert (one.faults, one.auroc, one.named) == (0, None, None)


def test_visibility_is_measured_for_every_kind_and_detector(normal):
    clean = plant(900)
    calm = LabelledRun("calm", clean, np.zeros(len(clean), np.int8))
    found = visibility(Case("made", Entity("made", tuple("abcde"), normal, (calm,)), 60.0), (0, 1))
    assert tuple(found) == DETECTORS
    assert all(tuple(kinds) == KINDS for kinds in found.values())
    assert np.mean(found["cross-linear lag 2"]["replay"]) > np.mean(found["max |z|"]["replay"]) + 0.1
    assert np.mean(found["max |z|"]["spike"]) > 0.7


def test_page_lists_every_kind_with_its_severities():
    rows = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    page = PAGE.read_text()
    for kind, spec in CATALOGUE.items():
        low, high = spec.severity
        assert f"| `{kind}` | {low:g} to {high:g} |" in page
    assert set(rows) == set(KINDS)


def test_page_shows_about_what_the_command_prints(recordings):
    """Six of the thirty seeds, VAR on one of the two sets: alike in the mean over kinds."""
    _, measured = PAGE.read_text().split("<!-- measured -->\n")
    shown = [line.split(" | ") for line in measured.splitlines() if line.startswith("| `")]
    printed = [line.split(" | ") for line in list(table(recordings, ("tep",), range(6)))[2:]]
    assert [row[0] for row in shown] == [row[0] for row in printed] == [f"| `{kind}`" for kind in KINDS]
    column = DETECTORS.index("VAR(5) ridge") - len(DETECTORS)  # the last columns of both are those of tep
    means = [np.mean([float(row[column].strip(" |")) for row in rows]) for rows in (shown, printed)]
    assert means[0] == pytest.approx(means[1], abs=0.05)
