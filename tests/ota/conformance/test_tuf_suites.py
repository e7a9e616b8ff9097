"""Our client under the tests of others, and under the protocol that they speak with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "trust"))
from static_server import StaticServer, serving
from suites import conformance, python_tuf, run_conformance, run_python_tuf
from tuf_repository import Repository

CLIENT = Path(__file__).parent / "client.py"


@pytest.mark.slow
@pytest.mark.counterpart
@pytest.mark.timeout(900)
def test_tuf_conformance(tmp_path: Path) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("the program `faketime` is not installed (.ci/system-packages test)")
    results = run_conformance(*conformance(), tmp_path / "report.xml")
    assert results.failed == ()
    assert len(results.passed) >= 109


@pytest.mark.counterpart
@pytest.mark.timeout(400)
def test_python_tuf_s_own_tests(tmp_path: Path) -> None:
    results = run_python_tuf(python_tuf(), tmp_path / "report.xml")
    assert results.failed == ()
    assert len(results.passed) >= 72


def run(*arguments: str, before: tuple[str, ...] = ()) -> int:
    return subprocess.run([*before, sys.executable, str(CLIENT), *arguments], timeout=30).returncode


def test_the_command_line_as_its_protocol_says(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository", now=datetime.now(UTC).replace(microsecond=0))
    named = repository.release(b"model " * 1_000)["model"]
    metadata, targets = tmp_path / "metadata", tmp_path / "targets"
    metadata.mkdir()
    targets.mkdir()
    (tmp_path / "root.json").write_bytes(repository.first_root)
    with serving(repository.folder) as server:
        where = ("--metadata-dir", str(metadata), "--metadata-url", f"{server.origin}/metadata/")
        assert run(*where[:2], "init", str(tmp_path / "root.json")) == 0
        assert server.asked == []
        assert run(*where, "refresh") == 0
        for role in ("root", "timestamp", "snapshot", "targets"):
            assert (metadata / f"{role}.json").read_bytes() == repository.file_of(role).read_bytes()
        fetch = ("--target-dir", str(targets), "--target-base-url", f"{server.origin}/targets/")
        assert run(*where, *fetch, "--target-name", "nothing", "download") == 1
        assert run(*where, *fetch, "--target-name", named["path"], "download") == 0
        assert [file.read_bytes() for file in targets.iterdir()] == [b"model " * 1_000]
        _nothing_is_brought_twice(server, where, fetch, named["path"])
        if shutil.which("faketime"):  # the suite moves time by it
            assert run(*where, "refresh", before=("faketime", "-f", "+2d")) == 1
        assert run(*where, "refresh") == 0
        repository.metadata["timestamp"].signed.version += 1
        repository.put("timestamp", signers=[])
        assert run(*where, "refresh") == 1


def _nothing_is_brought_twice(server: StaticServer, where: tuple, fetch: tuple, path: str) -> None:
    server.asked.clear()
    assert run(*where, *fetch, "--target-name", path, "download") == 0
    assert not [asked for asked, _ in server.asked if asked.startswith("/targets/")]
