"""What unpickles runs code from its input, so nothing in the agent or its adapters may do it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {"torch.load", "pandas.read_pickle", "pd.read_pickle", "numpy.load", "np.load", "eval", "exec"}


def sources() -> list[Path]:
    return [*(ROOT / "edge_agent").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]


def findings(source: str) -> Iterator[str]:
    """Imports of unpicklers, calls that unpickle or run text, and `allow_pickle` with anything but False."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"import {name.name}" for name in node.names if name.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"from {node.module} import"
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in CALLS:
                yield f"{ast.unparse(node.func)}()"
            yield from (
                f"allow_pickle={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
            )


def test_nothing_unpickles() -> None:
    found = {str(path.relative_to(ROOT)): [*findings(path.read_text())] for path in sources()}
    assert {path: what for path, what in found.items() if what} == {}
    assert len(found) > 200


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib.externals",
        "from pickle import loads",
        "torch.load(path)",
        "np.load(path)",
        "read(path, allow_pickle=True)",
        "read(path, allow_pickle=wanted)",
        "eval(text)",
    ],
)
def test_what_unpickles_is_found(source: str) -> None:
    assert [*findings(source)]


def test_what_does_not_is_not() -> None:
    assert not [*findings("import json\nsave(x, allow_pickle=False)\nmodel.eval()\nnp.loadtxt(path)")]
