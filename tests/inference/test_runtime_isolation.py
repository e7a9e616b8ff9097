import json
import os
import subprocess
import sys
from pathlib import Path

from bundle_factory import make_manifest, make_parts

from edge_agent.bundle import write_bundle

CHILD = """
import json, os, sys
from pathlib import Path
import numpy as np
import edge_agent.inference
early = "onnxruntime" in sys.modules
from edge_agent.bundle import read_bundle
from edge_agent.graph.snapshot import Snapshot
bundle = read_bundle(Path(sys.argv[1]))
threads = len(os.listdir("/proc/self/task"))
detector = edge_agent.inference.build_detector(bundle)
one, zero = np.ones(1), np.zeros(1, np.float32)
none = np.full((1, 3), -1)
for number in range(50):
    detector.score(Snapshot(number, 0, 0, ("a",), one, zero, zero.astype("i4"), one > 0, none))
edge_agent.inference.self_test(bundle)
entries = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
links = [os.readlink(entry) for entry in entries if os.path.lexists(entry)]
print(json.dumps({
    "early": early,
    "torch": "torch" in sys.modules,
    "sockets": [link for link in links if link.startswith("socket:")],
    "threads": len(os.listdir("/proc/self/task")) - threads,
    "telemetry": os.environ["ORT_DISABLE_TELEMETRY"],
}))
"""


def test_running_a_model_opens_no_socket_writes_no_file_and_starts_no_thread(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_bundle(tmp_path / "bundle", make_manifest(), make_parts())
    result = subprocess.run(
        [sys.executable, "-B", "-c", CHILD, str(tmp_path / "bundle")],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(result.stdout) == {
        "early": False,
        "torch": False,
        "sockets": [],
        "threads": 0,
        "telemetry": "1",
    }
    assert result.stderr == ""
    assert list(home.rglob("*")) == []
