"""Every recipe by the same rules: bundle, parity, sensors in any order, faults found."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from click.testing import CliRunner  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

from edge_agent.bundle.store import read_bundle  # noqa: E402
from edge_agent.bundle.verify import OUTPUTS  # noqa: E402
from edge_agent.cli.app import cli  # noqa: E402
from edge_agent.errors import ConfigError, DataFileError  # noqa: E402
from edge_agent.inference import OnnxDetector, self_test  # noqa: E402
from edge_agent.inference.step import ModelStep  # noqa: E402
from edge_agent.recording import write_table  # noqa: E402
from edge_models.recipes.build import DEFAULT_MEMBERS, build, check, names  # noqa: E402
from edge_models.recipes.fitting import Blocks, Settings, corrupt  # noqa: E402
from edge_models.recipes.frame import PlantStep, identities  # noqa: E402
from edge_models.recipes.linear import LinearEstimator, LinearOptions  # noqa: E402
from edge_models.recipes.members import Estimator, ResidualMember, judge, winsorised_rms  # noqa: E402
from edge_models.recipes.plant import MAX_SENSORS, hold, normal_of, plant_of, read_plant, standardise  # noqa: E402
from edge_models.recipes.publish import Label, influence, publish, trained_neighbours  # noqa: E402
from edge_models.recipes.transformer import Transformer, TransformerOptions  # noqa: E402
from edge_models.reporting import DataSummary  # noqa: E402
from edge_models.site import SiteOptions  # noqa: E402
from edge_models.streaming import plant_score, score_rows  # noqa: E402

SENSORS = tuple(f"S{number}" for number in range(8))
RECIPES = ("linear", "lstm-ae", "transformer", "gdn", "pyod:IForest", "ensemble:linear+pyod:GMM")
BORDER = 600


def plant_readings(ticks=1_100, seed=3):
    """Two slow causes seen by eight sensors, each in its own unit; the last sensor never moves."""
    random = np.random.default_rng(seed)
    causes = np.zeros((ticks, 2))
    for tick in range(1, ticks):
        causes[tick] = 0.95 * causes[tick - 1] + random.normal(0.0, 0.3, 2)
    mixed = causes @ random.normal(0.0, 1.0, (2, 8)) + random.normal(0.0, 0.1, (ticks, 8))
    readings = mixed * np.array([1, 10, 100, 1, 1, 0.01, 1, 1]) + np.arange(8) * 50.0
    readings[:, 7] = 7.0
    return readings


def summary(sensors=SENSORS, rows=BORDER):
    return DataSummary("plant.csv", "0" * 64, rows, rows, sensors)


@pytest.fixture(scope="module")
def readings():
    return plant_readings()


@pytest.fixture(scope="module")
def plant(readings):
    return plant_of(SENSORS, [readings[:450]], [readings[450:BORDER]], summary())


@pytest.fixture(scope="module")
def history(readings, tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "plant.csv"
    write_table(path, {name: readings[:BORDER, place] for place, name in enumerate(SENSORS)})
    return path


@pytest.fixture(scope="module")
def bundle_of(plant, tmp_path_factory):
    made = {}

    def make(recipe):
        if recipe not in made:
            member = build(recipe, plant, Settings(most_steps=100, batch=16))
            place = tmp_path_factory.mktemp("bundle") / "bundle"
            made[recipe] = publish(place, member, plant, Label("plant", recipe, 0, lambda scores: "# Card"))
        return made[recipe]

    return make


def scores_of(bundle, values, order=range(8)):
    table = np.full((len(order), bundle.manifest.neighbours), -1, np.int64)
    return score_rows(OnnxDetector(bundle), values[:, list(order)], table, [SENSORS[place] for place in order])


@pytest.mark.parametrize("recipe", RECIPES)
def test_bundle_passes_the_gate_and_the_self_test(bundle_of, recipe):
    bundle = bundle_of(recipe)
    self_test(bundle)
    assert bundle.manifest.provenance.recipe == recipe
    assert [sensor.name for sensor in bundle.manifest.sensors] == list(SENSORS)
    assert bundle.calibration.scores.shape == (150, 8)
    assert 0.3 < float(bundle.calibration.scores[20:, :7].mean()) < 3.0


@pytest.mark.parametrize("recipe", RECIPES)
def test_model_computes_what_pytorch_computed(bundle_of, recipe):
    bundle = bundle_of(recipe)
    step = ModelStep(bundle.model, bundle.manifest)
    step.resize(len(SENSORS), None)
    for tick in range(bundle.golden.ticks):
        for name, values in bundle.golden.inputs.items():
            getattr(step, name)[:] = values[tick]
        step.run()
        for name in OUTPUTS:
            np.testing.assert_allclose(getattr(step, name), bundle.golden.outputs[name][tick], 1e-4, 1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_order_of_sensors_does_not_matter(bundle_of, readings, recipe):
    bundle = bundle_of(recipe)
    order = np.array([5, 2, 7, 0, 1, 6, 4, 3])
    shuffled = scores_of(bundle, readings[BORDER : BORDER + 60], order)
    straight = scores_of(bundle, readings[BORDER : BORDER + 60])
    np.testing.assert_allclose(shuffled, straight[:, order], rtol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_missing_and_unknown_sensors_are_survived(bundle_of, readings, recipe):
    bundle = bundle_of(recipe)
    values = readings[BORDER : BORDER + 60].copy()
    values[20:30, 1] = np.nan
    detector = OnnxDetector(bundle)
    table = np.full((5, bundle.manifest.neighbours), -1, np.int64)
    scores = score_rows(detector, values[:, [0, 1, 2, 3, 4]], table, ["S0", "S1", "stranger", "S3", "S4"])
    assert np.isfinite(scores).all()
    assert (scores[:, 2] == 0.0).all()
    assert (scores[20:30, 1] <= scores[19, 1]).all()  # missing or held: nothing new is claimed
    assert (scores[40:, [0, 1, 3, 4]] > 0.0).any()


@pytest.mark.parametrize("recipe", RECIPES)
def test_fault_is_found(bundle_of, readings, recipe):
    values = readings[BORDER:].copy()
    label = np.zeros(len(values), np.int8)
    for start in (100, 200, 300, 400):
        values[start : start + 30, 2] += 4.0 * readings[:BORDER, 2].std()
        label[start : start + 30] = 1
    score = plant_score(scores_of(bundle_of(recipe), values))
    assert roc_auc_score(label[20:], score[20:]) > 0.8


@pytest.mark.parametrize("recipe", ["lstm-ae", "gdn", "pyod:IForest"])
def test_same_seed_gives_the_same_weights(plant, recipe):
    first, again = (build(recipe, plant, Settings(seed=5, most_steps=10)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_sensor_that_arrives_late_takes_on_the_plants_state(bundle_of, readings):
    """The LSTM's state belongs to the plant and is kept in every row."""
    bundle = bundle_of("lstm-ae")
    values = readings[BORDER : BORDER + 80].copy()
    late = values.copy()
    late[:40, 3] = np.nan
    whole, with_gap = scores_of(bundle, values), scores_of(bundle, late)
    assert np.isfinite(with_gap).all()
    assert float(np.median(with_gap[60:, :3] / whole[60:, :3])) == pytest.approx(1.0, rel=0.5)


def test_constant_sensor_cannot_claim_more_than_its_history_supports(bundle_of, readings):
    values = readings[BORDER : BORDER + 40].copy()
    values[20:, 7] = 9_000.0
    score = scores_of(bundle_of("linear"), values)[20, 7]
    assert 2.0 < score <= 2.0 * np.log(452) + 1e-3


def test_held_reading_keeps_its_score(plant):
    member = build("linear", plant, Settings())
    step = PlantStep(member, plant.normal, np.zeros((8, 8))).eval()
    state = step.start(8)
    fixed = (torch.full((8, 8), -1), torch.from_numpy(identities(8)))
    zero = torch.zeros(8, dtype=torch.int32)
    values = torch.tensor(plant.raw[0], dtype=torch.float32)
    with torch.no_grad():
        for value in values[:30]:
            *_, score, _, memory, lags = step(value, torch.zeros(8), zero, *fixed, *state)
            state = (memory, lags)
        held = step(values[30] + 5.0, torch.ones(8), zero, *fixed, *state)[2]
    torch.testing.assert_close(held, score)


def test_no_reading_vouches_for_itself():
    """The relation leaves the sensor's own present out; in the linear one its past as well."""
    torch.manual_seed(0)
    transformer = Transformer(6, TransformerOptions(window=4)).eval()
    now, past = torch.randn(1, 6), torch.randn(1, 6, 4)
    moved = now.clone()
    moved[0, 2] += 1.0
    none = torch.zeros(1, 0)
    with torch.no_grad():
        change = (transformer(moved, past, none)[0] - transformer(now, past, none)[0]).abs()[0]
    assert float(change[2].max()) < 1e-5
    assert float(change[[0, 1, 3, 4, 5], 1].min()) > 1e-5
    assert float(change[:, 0].max()) < 1e-6


def test_linear_relation_is_the_regression_without_the_sensor(plant):
    member = build("linear", plant, Settings(), LinearOptions(lags=1, relation_lags=1, penalty=1e-3))
    estimator = member.estimator
    assert isinstance(estimator, LinearEstimator)
    rows = np.clip(np.concatenate((plant.training[0], plant.validation[0])), -5.0, 5.0)
    sensor, others = 3, [0, 1, 2, 4, 5, 6, 7]
    pairs = [(plant.training[0], slice(None)), (plant.validation[0], slice(None))]
    features = np.concatenate([np.hstack((p[1:, others], p[:-1, others], np.ones((len(p) - 1, 1)))) for p, _ in pairs])
    target = np.concatenate([p[1:, sensor] for p, _ in pairs])
    square = features.T @ features + 1e-3 * np.eye(15)
    expected = np.linalg.solve(square, features.T @ target)
    found = estimator.relation.numpy()[:, sensor]
    np.testing.assert_allclose(found[others], expected[:7], atol=2e-3)
    np.testing.assert_allclose(found[[8 + other for other in others]], expected[7:14], atol=2e-3)
    assert found[sensor] == found[8 + sensor] == 0.0
    assert len(rows) == 450


class _Copy(Estimator):
    """Sensor 0 is expected where sensor 1 is."""

    def forward(self, now, past, hidden):
        return torch.roll(now, -1, 1).unsqueeze(-1), hidden


def test_influence_names_what_the_estimate_follows(plant):
    found = influence(ResidualMember(_Copy(), np.ones((8, 1)), plant.normal.limit), plant)
    assert found[0].argmax() == 1
    np.testing.assert_allclose(found.sum(1), 1.0)
    assert (np.diag(found) == 0.0).all()


def test_edges_of_the_bundle_become_its_neighbours(bundle_of):
    table = trained_neighbours(bundle_of("linear"))
    assert table.shape == (8, 8)
    assert all(sensor not in row for sensor, row in enumerate(table))


def test_judging_goes_by_runs(plant):
    member = build("linear", plant, Settings())
    first = judge(member, plant.held_out[0])[0]
    np.testing.assert_allclose(judge(member, plant.held_out[0][:40])[0], first[:40], rtol=1e-4, atol=1e-5)


def test_gaps_are_held_and_the_beginning_stands_at_the_mean():
    values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, 3.0]])
    np.testing.assert_array_equal(hold(values)[1:], [[2.0, 1.0], [2.0, 3.0]])
    assert standardise(values, normal_of(values))[0, 0] == 0.0


def test_validation_is_the_end_of_every_long_part(readings):
    plant = plant_of(SENSORS, [readings[:200], readings[200:230], readings[230:330]], [readings[330:400]], summary())
    assert [len(part) for part in plant.training] == [170, 30, 85]
    assert [len(part) for part in plant.validation] == [30, 15]


def test_only_short_parts_leave_the_longest_for_validation(readings):
    plant = plant_of(SENSORS, [readings[:40], readings[40:60]], [readings[330:400]], summary())
    assert [len(part) for part in plant.validation] == [6]


def test_rare_faults_in_held_out_readings_hardly_move_the_spread():
    residual = np.random.default_rng(0).normal(size=(2_000, 1))
    residual[:20] = 50.0
    assert winsorised_rms(residual)[0] == pytest.approx(1.0, rel=0.25)


def test_blocks_stay_inside_parts_and_are_corrupted_by_others():
    first, second = np.zeros((6, 2)), np.ones((5, 2))
    blocks = Blocks([first, second], 5)
    found = blocks.at(torch.arange(len(blocks)))
    assert len(blocks) == 3
    assert ((found == found[:, :1]).all(1)).all()
    mixed = corrupt(found, torch.Generator().manual_seed(0), share=1.0)
    assert set(mixed.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(corrupt(found, torch.Generator().manual_seed(0), share=0.0), found)


def test_part_shorter_than_a_block_is_begun_with_its_first_reading():
    blocks = Blocks([np.array([[1.0], [2.0]])], 4)
    assert blocks.at(torch.tensor([0])).flatten().tolist() == [1.0, 1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("pyod:iforest", "pyod:IForest"), ("ensemble:gdn+pyod:knn", "ensemble:gdn+pyod:KNN"), ("auto", "auto")],
)
def test_recipe_is_known_in_any_spelling(given, expected):
    assert check(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("liner", "did you mean 'linear'"),
        ("pyod:ECOD", "pyod:ECOD: evaluation only"),
        ("pyod:nonsense", "pyod:nonsense: PyOD has no detector of this name; expected one of pyod:IForest"),
        ("ensemble:linear", "expected two or more different recipes"),
        ("ensemble:linear+linear", "expected two or more different recipes"),
        ("ensemble:linear+hybrid", "none of them hybrid"),
    ],
)
def test_recipe_that_cannot_be_built_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        check(given)


def test_all_names_are_accepted():
    assert [check(name) for name in names()] == list(names())
    assert set(DEFAULT_MEMBERS) < set(names())


def test_rows_that_were_repeated_on_purpose_are_not_told_and_the_place_they_came_from_is(readings, tmp_path):
    path, repeated = tmp_path / "history.csv", np.concatenate([readings[:300]] * 3)
    write_table(path, dict(zip(SENSORS, repeated.T, strict=True)))
    (told,) = (one for one in read_plant(path, None, SiteOptions()).summary.warnings if "more than once" in one)
    assert str(path) in told
    gathered = read_plant(path, None, SiteOptions(gathered_from="gateway/history.db")).summary
    assert gathered.source == "history.db"
    assert not any("more than once" in one or str(path) in one for one in gathered.warnings)


def test_too_many_sensors_are_refused_at_once(tmp_path):
    path = tmp_path / "wide.csv"
    write_table(path, {f"s{number}": np.zeros(70) for number in range(MAX_SENSORS + 1)})
    with pytest.raises(DataFileError, match="expected at most 1000 for this recipe"):
        read_plant(path, None, SiteOptions())


def test_command_trains_a_recipe_and_detect_runs_it(history, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(
        cli, ["train", "--data", str(history), "--recipe", "linear", "--out", str(out), "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["recipe"], report["sensors"], report["leaderboard"]) == ("linear", 8, [])
    assert report["constant"] == ["S7"]
    assert report["fault_auroc"] > 0.7
    assert report["likelihood"] > -1.42
    card = read_bundle(out).files["card.md"].decode()
    assert "Recipe `linear`" in card
    assert "| relation_lags | 2 |" in card
    found = CliRunner().invoke(
        cli, ["detect", str(history), "--bundle", str(out), "--out", str(tmp_path / "scores.csv")]
    )
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("given", [("--recipe", "linear"), ("--recipe", "auto"), ("--quantize", "int8"), ()])
def test_command_refuses_a_folder_that_cannot_be_written_before_any_work(tmp_path, given):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    result = CliRunner().invoke(cli, ["train", "--data", str(tmp_path / "gone.csv"), *given, "--out", str(out)])
    assert result.exit_code == 2
    assert f"{out}: cannot be written: Not a directory" in result.stderr


def test_command_refuses_a_folder_that_is_not_empty_before_any_work(history, tmp_path):
    (tmp_path / "mine").write_text("keep me")
    result = CliRunner().invoke(cli, ["train", "--data", str(history), "--recipe", "gdn", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "not an empty folder" in result.stderr
