"""Models of plants that training has never seen."""

import numpy as np
import pytest
import torch

from edge_agent.companions import MEMBERS, MODEL
from edge_models import transfer
from edge_models.datasets import Entity, LabelledRun
from edge_models.evaluation.ablation import Levels, kept
from edge_models.evaluation.suites import Case
from edge_models.train_universal import history
from edge_models.training import prepare
from edge_models.transfer import LEFT_OUT, SHIPPED, SITE, Judged, Quality, markdown, quality, trained_without


@pytest.fixture(scope="module")
def prepared():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(600, 3)), axis=0)
    sources = [history("asd/omi-1", values[:, :2]), history("tep", values), history("simulated plant", -values)]
    return prepare(sources, np.random.default_rng(1))


def weights(network):
    return torch.cat([value.ravel() for value in network.state_dict().values()])


def test_network_never_sees_the_set_that_is_left_out(prepared):
    without, _ = trained_without(prepared, "asd", 0, 2)
    others, _ = trained_without(prepared[1:], "none of them", 0, 2)
    everything, _ = trained_without(prepared, "none of them", 0, 2)
    assert torch.equal(weights(without), weights(others))
    assert not torch.equal(weights(without), weights(everything))


def test_model_is_judged_alone_and_with_companions(tmp_path):
    label = np.zeros(400, np.int8)
    label[200:240] = 1
    values = np.zeros((400, 2))
    case = Case("asd", Entity("omi-1", ("a", "b"), values, (LabelledRun("t", values, label),)), 60.0)
    noise = np.random.default_rng(0).normal(size=(400, len(MEMBERS)))
    test = noise + 9.0 * label[:, None] * (np.array(MEMBERS) != MODEL)
    kept(tmp_path, "members asd omi-1", lambda: Levels(noise, {"t": test}))
    found = quality(case, None, tmp_path, SHIPPED)
    assert found.alone < 0.4
    assert found.joined > 0.9


def test_table_has_sets_first_and_then_plants_with_a_site_model():
    shipped, left_out, site = Quality(0.5, 0.6), Quality(0.25, 0.4), Quality(0.75, 0.8)
    found = [
        Judged("asd", "omi-1", {SHIPPED: shipped, LEFT_OUT: left_out, SITE: site}),
        Judged("asd", "omi-2", {SHIPPED: shipped, LEFT_OUT: shipped}),
    ]
    assert markdown(found).splitlines()[2:] == [
        "| asd (2) | 0.500 | 0.375 |  | 0.600 | 0.500 |  |",
        "| asd/omi-1 | 0.500 | 0.250 | 0.750 | 0.600 | 0.400 | 0.800 |",
    ]


def test_unknown_plant_is_named(recordings, monkeypatch, capsys):
    arguments = ["--data", str(recordings), "--set", "wsn_suthaharan", "--site", "asd/omi-1"]
    monkeypatch.setattr("sys.argv", ["transfer", *arguments])
    with pytest.raises(SystemExit) as stopped:
        transfer.main()
    assert stopped.value.code == 2
    assert "got 'asd/omi-1', expected one of wsn_suthaharan/multihop" in capsys.readouterr().err
