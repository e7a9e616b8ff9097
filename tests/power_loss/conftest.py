"""The tests here use the rig of the state machine and the factory of bundles, which lie beside other tests."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("ota/state", "ota/trust", "inference")]
