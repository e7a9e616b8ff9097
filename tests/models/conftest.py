import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch-geometric compiles with what torch deprecates
    import torch_geometric  # noqa: F401

from edge_agent.demo.recording import generate  # noqa: E402
from edge_models.bundling import Exported, Origin, golden_inputs, write_exported  # noqa: E402
from edge_models.hybrid import HybridStep  # noqa: E402
from edge_models.network import HybridNetwork  # noqa: E402
from edge_models.state import CONTEXT_WIDTH  # noqa: E402
from edge_models.train_universal import history  # noqa: E402

torch.set_num_threads(1)
# Small bundles are made by the factory beside the tests of inference.
sys.path.insert(0, str(Path(__file__).parent.parent / "inference"))


def awake_network(seed=0):
    """A network whose head is not zero, so that every path of it counts."""
    torch.manual_seed(seed)
    network = HybridNetwork()
    torch.nn.init.normal_(network.evidence.weight, std=0.3)
    return network.eval()


@pytest.fixture(scope="session")
def step():
    return HybridStep(awake_network()).eval()


@pytest.fixture(scope="session")
def plant_values():
    return generate(1500.0, 7).values


@pytest.fixture(scope="session")
def exported(step, plant_values):
    table = history("plant", plant_values).neighbour
    context = np.zeros((plant_values.shape[1], CONTEXT_WIDTH), np.float32)
    return Exported.of(step, golden_inputs(plant_values, table, context))


@pytest.fixture(scope="session")
def bundle(exported, tmp_path_factory):
    origin = Origin("awake", "1", "0" * 64, 0)
    return write_exported(tmp_path_factory.mktemp("bundle") / "awake", exported, origin, "# Test")


@pytest.fixture(scope="session")
def recordings():
    place = os.environ.get("EDGE_AGENT_DATA")
    if not place or not Path(place).is_dir():
        pytest.skip("EDGE_AGENT_DATA names no folder of recordings")
    return Path(place)
