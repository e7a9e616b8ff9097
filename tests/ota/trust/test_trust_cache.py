"""What a power cut, a full disk or a stranger may do to the trusted metadata on the gateway."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from gateway import Gateway
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from static_server import StaticServer
from tuf.ngclient import Updater
from tuf_repository import NOW_S, Repository

from edge_agent.errors import OtaError
from edge_agent.ota.trust import cache
from edge_agent.ota.trust.client import PowerSafeUpdater

NEW = b"the new model " * 5_000
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "rings", "models-pumps"])
@pytest.mark.parametrize("damage", [b"", b"\0" * 400, b'{"signed": {', b"[]", b"[" * 100_000, None])
def test_damaged_metadata_are_put_aside_and_fetched_again(
    gateway: Gateway, repository: Repository, name: str, damage: bytes | None
) -> None:
    file = gateway.settings.metadata / f"{name}.json"
    file.unlink()
    if damage is None:
        file.mkdir()
    else:
        file.write_bytes(damage)
    repository.release(NEW)
    gateway.update()
    assert gateway.model.read_bytes() == NEW
    assert file.read_bytes() == repository.file_of(name).read_bytes()
    assert len(list(file.parent.glob(f"{name}.json.damaged-*"))) == 1


def test_left_overs_of_a_power_cut_are_removed(gateway: Gateway) -> None:
    left = gateway.settings.metadata / "timestamp.json.new"
    left.write_bytes(b"half")
    gateway.check()
    assert not left.exists()


def test_nothing_new_writes_nothing(gateway: Gateway, server: StaticServer) -> None:
    files = sorted(path for path in gateway.settings.metadata.rglob("*.json") if not path.is_symlink())
    before = [path.stat().st_ino for path in files]
    server.asked.clear()
    gateway.check()
    assert [path.stat().st_ino for path in files] == before
    assert [path.rpartition("/")[2].partition(".")[0] for path, _ in server.asked[:2]] == ["2", "timestamp"]
    assert len(server.asked) == 3  # with the ring file


def test_each_file_is_durable_before_it_has_its_name(
    gateway: Gateway, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The override of python-tuf's private method is used for all that it writes, in the right order."""
    done: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        done.append("sync " + os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        done.append(f"name {target}")
        return real_replace(path, target)

    repository.rotate("timestamp")
    repository.release(NEW)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    gateway.check()
    named = [step.removeprefix("name ") for step in done if step.startswith("name ")]
    names = ["2.root", "timestamp", "snapshot", "targets", "rings"]
    assert [Path(path).name for path in named] == [f"{name}.json" for name in names]
    for path in named:
        at = done.index(f"name {path}")
        assert done[at - 1] == f"sync {path}.new"
        assert done[at + 1] == f"sync {Path(path).parent}"


@pytest.mark.parametrize("most", [0, 300, 600])
def test_a_full_disk_is_said_and_the_next_look_is_right(
    gateway: Gateway, repository: Repository, server: StaticServer, most: int
) -> None:
    repository.release(NEW)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(OtaError) as caught:
            gateway.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.reason == "disk"
    gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_python_tuf_still_has_what_is_built_on() -> None:
    """``_persist_file`` is overridden and ``_trusted_set`` read: of another version of tuf this has to be looked at."""
    assert PowerSafeUpdater._persist_file is not Updater._persist_file
    written = {"_persist_root", "_persist_metadata"}
    for name in written:
        assert "_persist_file" in getattr(Updater, name).__code__.co_names
    assert {"_trusted_set", "_dir"} <= set(Updater.__init__.__code__.co_names)


@pytest.mark.parametrize("now_s", [-1.0, 1e300, NOW_S])
def test_any_moment_can_be_judged_by(gateway: Gateway, now_s: float) -> None:
    if now_s > NOW_S:
        gateway.refuses("expired", now_s)
    else:
        gateway.check(now_s)


@QUIET
@given(at=st.integers(0, 10**6), flipped=st.integers(1, 255), role=st.sampled_from(["timestamp", "snapshot", "rings"]))
def test_any_damage_to_one_byte_here_does_no_harm(gateway: Gateway, at: int, flipped: int, role: str) -> None:
    file = gateway.settings.metadata / f"{role}.json"
    content = bytearray(file.read_bytes())
    content[at % len(content)] ^= flipped
    file.write_bytes(content)
    assert gateway.check().signed_s == NOW_S


@QUIET
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)).map(
            lambda value: repr(value).encode()
        ),
    ),
    role=st.sampled_from(["root", "timestamp", "snapshot", "targets", "rings"]),
)
def test_any_bytes_from_a_server_are_refused_by_a_fixed_reason(
    gateway: Gateway, server: StaticServer, content: bytes, role: str
) -> None:
    for file in gateway.settings.metadata.glob("*.json"):
        file.unlink()
    server.answers.clear()
    server.answers[f"{2 if role == 'root' else ''}{'.' if role != 'timestamp' else ''}{role}.json"] = lambda handler: (
        handler.answer(200, content)
    )
    with pytest.raises(OtaError) as caught:
        gateway.check()
    assert caught.value.reason in {"signature", "mismatch", "rollback"}


@QUIET
@given(at=st.integers(0, 10**6), flipped=st.integers(1, 255), role=st.sampled_from(["timestamp", "snapshot", "rings"]))
def test_metadata_with_one_changed_byte_are_refused_or_mean_the_same(
    gateway: Gateway, repository: Repository, server: StaticServer, at: int, flipped: int, role: str
) -> None:
    good = gateway.check()
    content = bytearray(repository.file_of(role).read_bytes())
    content[at % len(content)] ^= flipped
    for file in gateway.settings.metadata.glob("*.json"):
        file.unlink()
    server.answers[repository.file_of(role).name] = lambda handler: handler.answer(200, bytes(content))
    try:
        found = gateway.check()
    except OtaError as error:
        assert error.reason in {"signature", "mismatch", "rollback", "expired", "unreachable"}, error  # noqa: PT017
    else:
        assert found == good  # such as a key id that was not needed, or white space
    finally:
        server.answers.clear()


def test_a_file_that_cannot_be_kept_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "timestamp.json"
    cache.keep(file, b"first")
    (tmp_path / "timestamp.json.new").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        cache.keep(file, b"second")
    assert file.read_bytes() == b"first"
