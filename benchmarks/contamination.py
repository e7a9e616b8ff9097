"""What faults in the training history cost: ``python benchmarks/contamination.py --data DIR [--set SET]``.

Episodes of faults (offset, stuck, noise, replay; 5 to 40 rows of 1 to 3 sensors) are put into 0, 1, 5 and 10 % of the
rows of a plant's normal part. A site model is trained on each, without fine-tuning of the network, and judged by VUS-PR
on the plant's tests, which stay as they are. Prints a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.bundle.manifest import GOLDEN, MODEL, SensorSpec, TrainedEdge
from edge_agent.bundle.store import universal_bundle
from edge_agent.inference.onnx import OnnxDetector
from edge_models.bundling import WEIGHTS, Exported, Origin, Site, unpack_weights, write_exported
from edge_models.datasets import DATA_VARIABLE, Entity, data_folder, load
from edge_models.evaluation.metrics import vus_pr
from edge_models.hybrid import HybridStep
from edge_models.neighbours import named_edges
from edge_models.site.fitting import fitted_constants
from edge_models.site.plant import Plant
from edge_models.site.sample import Sample
from edge_models.site.spreads import with_spreads
from edge_models.streaming import plant_score, score_rows

SHARES = (0.0, 0.01, 0.05, 0.1)
WARM_UP = 50
Values = NDArray[np.float64]


def contaminated(values: Values, share: float, seed: int) -> Values:
    """``values`` [T, N] with faults in ``share`` of the rows."""
    random = np.random.default_rng(seed)
    faulty, bad = values.copy(), np.zeros(len(values), bool)
    deviation = np.nanstd(values, 0)
    moving = np.flatnonzero(deviation > 1e-6 * np.abs(np.nanmean(values, 0)) + 1e-9)
    while bad.sum() < share * len(values):
        missing = int(np.ceil(share * len(values) - bad.sum()))
        length = min(int(random.integers(5, 41)), missing)
        first = int(random.integers(len(values) - length))
        if bad[first : first + length].any():
            continue
        for sensor in random.choice(moving, int(random.integers(1, 4)), replace=False):
            faulty[first : first + length, sensor] = _fault(values[:, sensor], first, length, deviation[sensor], random)
        bad[first : first + length] = True
    return faulty


def _fault(column: Values, first: int, length: int, deviation: float, random: np.random.Generator) -> Values:
    window, sign = column[first : first + length], random.choice([-1.0, 1.0])
    replayed = int(random.integers(len(column) - length))
    kinds = (
        window + sign * random.uniform(4, 10) * deviation,
        np.full(length, window[0] + sign * random.uniform(2, 6) * deviation),
        window + random.normal(0, 5 * deviation, length),
        column[replayed : replayed + length],
    )
    return np.asarray(kinds[int(random.integers(len(kinds)))])


def measured(entity: Entity, normal: Values) -> float:
    """Mean VUS-PR over the tests of a model trained on ``normal``."""
    border = len(normal) * 3 // 4
    sample = Sample([normal[:border]], [normal[border:]], whole=True)
    universal = universal_bundle()
    network = unpack_weights(universal)
    plant = Plant.of(entity.sensors, sample.training, ())
    context = with_spreads(HybridStep(network).eval(), sample.held_out, plant, fitted_constants(network, sample, plant))
    specs = tuple(
        SensorSpec(name, None, tuple(map(float, row))) for name, row in zip(plant.sensors, context, strict=True)
    )
    edges = tuple(TrainedEdge(*edge) for edge in named_edges(plant.sensors, plant.neighbour, plant.strength))
    exported = Exported(universal.files[MODEL], universal.files[GOLDEN], universal.files[WEIGHTS])
    site = Site(None, specs, edges, np.zeros((0, len(specs)), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_exported(Path(folder) / "bundle", exported, Origin("bench", "0", "0" * 64, 0), "", site)
        detector = OnnxDetector(bundle)
    score_rows(detector, entity.normal[-WARM_UP:], plant.neighbour, plant.sensors)
    state = detector.export_state()
    scores = {}
    for test in entity.tests:
        detector.import_state(state)
        scores[test.name] = plant_score(score_rows(detector, test.values, plant.neighbour, plant.sensors))
    calm = [test for test in entity.tests if not test.label.any()]
    found = []
    for test in entity.tests:
        if test.label.any():
            parts = [*calm, test]
            label = np.concatenate([part.label for part in parts])
            found.append(vus_pr(label, np.concatenate([scores[part.name] for part in parts])))
    return float(np.mean(found))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=f"folder of recordings (default: ${DATA_VARIABLE})")
    parser.add_argument("--set", default="tep")
    parser.add_argument("--plant", help="only this one of the set")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for entity in load(data_folder(options.data), options.set):
        if options.plant in (None, entity.name):
            for share in SHARES:
                quality = measured(entity, contaminated(entity.normal, share, options.seed))
                print(json.dumps({"plant": entity.name, "share": share, "vus_pr": round(quality, 4)}), flush=True)


if __name__ == "__main__":
    main()
