from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from publisher_rig import PASSPHRASE, Client, ask

from edge_agent.errors import OtaError
from edge_agent.ota.publisher import Repository

Bundles = dict[str, Path]

DYING = """
import os, sys
from pathlib import Path
from edge_agent.ota.publisher import Repository

folder, bundle, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def dying(name):
    real = getattr(os, name)
    def call(*given, **more):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return real(*given, **more)
    return call

for name in ("fsync", "replace", "unlink", "rename"):
    setattr(os, name, dying(name))
Repository.open(folder, lambda _what, _new: sys.argv[4]).publish(bundle)
"""


def publish_until(folder: Path, bundle: Path, steps: int) -> int:
    """Publish in a process that dies at its n-th durable operation; its exit code."""
    command = [sys.executable, "-c", DYING, str(folder), str(bundle), str(steps), PASSPHRASE]
    return subprocess.run(command, timeout=60, check=False).returncode


def copied(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target


def test_killed_publish_is_seen_whole_or_not_at_all_and_the_next_one_works(
    repository: Repository, bundles: Bundles, tmp_path: Path
) -> None:
    """Killed at every ninth durable operation: a client sees the old or the new release; both go on."""
    repository.publish(bundles["1.0.0"])
    seen, steps = set(), 0
    while True:
        folder = copied(repository.folder, tmp_path / f"fleet-{steps}")
        code = publish_until(folder, bundles["1.1.0"], steps)
        ring = Client(tmp_path / f"client-{steps}", folder / "repo").ring("canary")
        assert ring is not None
        assert (ring.release, ring.counter) in (("tiny-1.0.0", 1), ("tiny-1.1.0", 2))
        after = Repository.open(folder, ask)
        done = after.publish(bundles["1.2.0"])
        newest = Client(tmp_path / f"later-{steps}", folder / "repo").ring("canary")
        assert newest is not None
        assert newest.release == "tiny-1.2.0"
        assert done.counters["canary"] == newest.counter
        assert after.status()["audit_entries"] == newest.counter + 1, "init and one for each release that was published"
        seen.add(newest.counter)
        if code == 0:
            break
        assert code == 9
        steps += 9
    assert seen == {2, 3}, "some were forgotten, some were finished"


def test_second_publisher_is_told_to_wait(repository: Repository, bundles: Bundles) -> None:
    with open(repository.folder / ".lock", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OtaError, match="another publisher is at work") as refused:
            repository.publish(bundles["1.0.0"])
    assert refused.value.reason == "busy"
    assert repository.publish(bundles["1.0.0"]).published


def test_two_publishers_at_once_lose_nothing(repository: Repository, bundles: Bundles) -> None:
    """Each tries until it is let in; both releases are there in the end, with different counters."""
    script = """
import sys, time
from pathlib import Path
from edge_agent.errors import OtaError
from edge_agent.ota.publisher import Repository
repository = Repository.open(Path(sys.argv[1]), lambda _what, _new: sys.argv[2])
for number in range(5):
    while True:
        try:
            repository.publish(Path(sys.argv[3]), rings=(sys.argv[4],))
            break
        except OtaError as error:
            if error.reason != "busy":
                raise
            time.sleep(0.01)
"""
    arguments = [("canary", "1.0.0"), ("early", "1.1.0")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(repository.folder), PASSPHRASE, str(bundles[version]), ring]
        )
        for ring, version in arguments
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    canary, early = repository.ring("canary"), repository.ring("early")
    assert canary is not None
    assert early is not None
    assert {canary.release, early.release} == {"tiny-1.0.0", "tiny-1.1.0"}
    assert max(canary.counter, early.counter) == 10
    assert repository.status()["audit_entries"] == 11


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda lines: [lines[0], lines[1].replace(b"tiny-1.0.0", b"tiny-6.6.6"), *lines[2:]], "line 2"),
        (lambda lines: [lines[0], *lines[2:]], "line 2"),
        (lambda lines: lines[:-1], "so it was tampered with"),
        (lambda lines: [*lines[:1], b"not an entry\n", *lines[1:]], "line 2: not an entry"),
    ],
)
def test_audit_log_that_was_tampered_with_is_found(
    repository: Repository, bundles: Bundles, tamper: object, message: str
) -> None:
    repository.publish(bundles["1.0.0"])
    repository.promote("tiny-1.0.0", "canary", "early")
    log = repository.folder / "audit.jsonl"
    log.write_bytes(b"".join(tamper(log.read_bytes().splitlines(keepends=True))))  # type: ignore[operator]
    with pytest.raises(OtaError, match=message) as found:
        repository.status()
    assert found.value.reason == "audit"
    with pytest.raises(OtaError, match="put it aside to begin a new one"):
        repository.halt("canary")
    os.replace(log, log.with_suffix(".aside"))
    assert repository.halt("canary").published
    assert b'"follows"' in log.read_bytes()
    assert repository.status()["audit_entries"] == 1


def test_folder_that_is_in_use_is_not_taken_for_a_new_repository(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(OtaError, match="is not empty, expected a new folder"):
        Repository.init(tmp_path, ask)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_full_disk_is_one_sentence_and_what_is_published_stays(repository: Repository, bundles: Bundles) -> None:
    """A limit of the size of files stands for the disk: writing beyond it fails in the middle."""
    repository.publish(bundles["1.0.0"])
    script = """
import resource, signal, sys
from pathlib import Path
from edge_agent.errors import OtaError
from edge_agent.ota.publisher import Repository
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    Repository.open(Path(sys.argv[1]), lambda _what, _new: sys.argv[2]).publish(Path(sys.argv[3]))
except OtaError as error:
    print(error.reason, error)
"""
    command = [sys.executable, "-c", script, str(repository.folder), PASSPHRASE, str(bundles["1.1.0"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("disk ")
    assert "File too large; make room or give leave, then try again" in done.stdout
    ring = repository.ring("canary")
    assert ring is not None
    assert ring.release == "tiny-1.0.0"
    assert repository.publish(bundles["1.1.0"]).published
