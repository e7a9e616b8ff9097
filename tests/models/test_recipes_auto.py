"""Choice among recipes: what counts, what is kept, what is shown."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("optuna", reason="needs the train extra")

from edge_agent.bundle.store import read_bundle  # noqa: E402
from edge_agent.errors import DataFileError  # noqa: E402
from edge_agent.recording import write_table  # noqa: E402
from edge_models.faults import Detection  # noqa: E402
from edge_models.recipes import auto  # noqa: E402
from edge_models.recipes.command import AnyReport, as_json, lines  # noqa: E402
from edge_models.recipes.judging import MEAN_ALONE, Judged  # noqa: E402
from edge_models.site import SiteOptions  # noqa: E402


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    random = np.random.default_rng(3)
    causes = np.cumsum(random.normal(size=(600, 2)), 0) * 0.3
    causes -= np.linspace(causes[0], causes[-1], 600)
    values = causes @ random.normal(size=(2, 5)) + 0.1 * random.normal(size=(600, 5))
    path = tmp_path_factory.mktemp("auto") / "plant.csv"
    write_table(path, {f"s{place}": values[:, place] for place in range(5)})
    return path


@pytest.fixture(scope="module")
def report(history, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "_ORDER", ("linear", "pyod:GMM"))
        patch.setattr(auto, "TUNABLE", {"linear": auto.TUNABLE["linear"]})
        clock = itertools.count(step=0.1)
        found = auto.train_auto(history, None, out, SiteOptions(time_budget_s=2.0), clock=clock.__next__)
    return found, read_bundle(out)


def test_best_of_the_leaderboard_is_kept(report):
    found, bundle = report
    quality = [line.quality for line in found.leaderboard]
    assert quality == sorted(quality, reverse=True)
    assert bundle.manifest.provenance.recipe == found.kept.recipe == found.leaderboard[0].recipe


def test_study_varies_hyper_parameters_and_tries_an_ensemble(report):
    found, _ = report
    tried = [line.recipe for line in found.leaderboard]
    settings = [tuple(line.settings.values()) for line in found.leaderboard if line.recipe == "linear"]
    assert tried.count("linear") == len(set(settings)) > 1
    assert any(recipe.startswith("ensemble:") for recipe in tried)


def test_leaderboard_is_shown_and_goes_into_json(report):
    found, _ = report
    whole = AnyReport(found.kept.out, found.kept.recipe, found.kept, found.leaderboard)
    shown = list(lines(whole))
    assert shown[0].split()[:4] == ["recipe", "quality", "faults", "nats"]
    assert len(as_json(whole)["leaderboard"]) == len(found.leaderboard)


def test_folder_that_is_not_empty_is_refused_before_any_work(history, tmp_path):
    (tmp_path / "mine").write_text("keep me")
    with pytest.raises(DataFileError, match="not an empty folder"):
        auto.train_auto(history, None, tmp_path, SiteOptions())


@pytest.mark.parametrize(
    ("likelihood", "auroc", "quality"),
    [(MEAN_ALONE, 0.8, 0.8), (MEAN_ALONE + np.log(2.0), 0.8, 0.85), (-1e9, 0.8, 0.7), (MEAN_ALONE, None, 0.5)],
)
def test_quality_is_faults_found_and_a_tenth_of_the_spread_explained(likelihood, auroc, quality):
    assert Judged(likelihood, (Detection("bias", 1, auroc, None),)).quality == pytest.approx(quality)
