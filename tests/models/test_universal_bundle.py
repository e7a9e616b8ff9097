"""The model that is shipped in the package."""

import numpy as np

from edge_agent.bundle.store import universal_bundle
from edge_agent.demo.tags import NAMES
from edge_agent.inference.onnx import OnnxDetector
from edge_agent.inference.selftest import self_test
from edge_models.neighbours import choose_neighbours, partial_correlations
from edge_models.streaming import score_rows


def test_it_is_small_and_passes_its_self_test():
    bundle = universal_bundle()
    assert sum(map(len, bundle.files.values())) < 2_000_000
    assert bundle.manifest.sensors == ()
    assert self_test(bundle).deviation < 1.0


def test_it_sees_the_onset_of_a_spoofed_level(plant_values):
    bundle = universal_bundle()
    spoofed = NAMES.index("LIT301")
    attacked = plant_values.copy()
    attacked[1_200:1_260, spoofed] += 60.0  # mm
    table = choose_neighbours(partial_correlations(plant_values[:600]), bundle.manifest.neighbours)
    clean, scores = (score_rows(OnnxDetector(bundle), v, table, NAMES) for v in (plant_values, attacked))
    np.testing.assert_array_equal(scores[:1_200], clean[:1_200])
    assert np.mean(clean[600:]) < 5.0
    assert scores[1_200:1_205, spoofed].max() > 50.0 > 5.0 * clean[1_200:1_205, spoofed].max()
