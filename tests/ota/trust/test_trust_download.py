"""Bringing one file over lines and from servers as they are: cut, dawdling, wrong, hostile, and onto full disks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from fault_proxy import FaultProxy
from static_server import Handler, StaticServer, serving

from edge_agent.errors import OtaError
from edge_agent.ota.trust import download as module
from edge_agent.ota.trust.download import Download, Wanted
from edge_agent.ota.trust.pace import WINDOW_S, Pace
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import Patience, transport_for

CONTENT = Random(5).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[StaticServer]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "model.tar").write_bytes(CONTENT)
    with serving(tmp_path / "web") as server:
        yield server


@pytest.fixture
async def proxy(origin: StaticServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(origin.server_port) as proxy:
        yield proxy


class Place:
    """Where it is brought to."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(folder / "ota", folder / "root.json", timeout_s=2.0)
        self.into = folder / "ota" / "blobs" / SHA256
        self.part = self.settings.partial / f"{SHA256}.part"

    def fetch(self, origin: str, slowest: int = 500, monotonic: Callable[[], float] | None = None) -> None:
        pace = Pace(slowest) if monotonic is None else Pace(slowest, monotonic)
        transport = transport_for(origin, self.settings)
        download = Download(transport, self.settings.partial, pace, Patience(60.0))
        download.run(Wanted(f"{origin}/model.tar", SHA256, len(CONTENT)), self.into)

    def have(self, content: bytes) -> None:
        self.part.parent.mkdir(parents=True)
        self.part.write_bytes(content)

    def fails(self, reason: str, origin: str, **options: object) -> str:
        with pytest.raises(OtaError) as caught:
            self.fetch(origin, **options)  # type: ignore[arg-type]
        assert caught.value.reason == reason, str(caught.value)
        assert not self.into.exists()
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_is_brought_whole_and_the_part_is_gone(place: Place, origin: StaticServer) -> None:
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT
    assert list(place.settings.partial.iterdir()) == []


def test_what_is_here_already_is_not_brought_again(place: Place, origin: StaticServer) -> None:
    place.fetch(origin.origin)
    origin.asked.clear()
    place.fetch(origin.origin)
    assert origin.asked == []


def test_what_is_here_but_damaged_is_brought_again(place: Place, origin: StaticServer) -> None:
    place.into.parent.mkdir(parents=True)
    place.into.write_bytes(b"\0" * len(CONTENT))
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT


@pytest.mark.parametrize("have", [1, 999_999])
def test_it_goes_on_where_it_was_cut_off(place: Place, origin: StaticServer, have: int) -> None:
    place.have(CONTENT[:have])
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT
    assert origin.asked == [("/model.tar", f"bytes={have}-")]
    assert origin.sent == len(CONTENT) - have


def test_a_whole_part_needs_no_server(place: Place) -> None:
    place.have(CONTENT)
    place.fetch("http://127.0.0.1:9")
    assert place.into.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT + b"!", b"\0" * (len(CONTENT) + 1)])
def test_a_part_that_is_too_long_is_begun_anew(place: Place, origin: StaticServer, part: bytes) -> None:
    place.have(part)
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT


@pytest.mark.parametrize("whole", [False, True])
def test_a_part_with_wrong_bytes_is_brought_anew_at_once(place: Place, origin: StaticServer, whole: bool) -> None:
    """As after a power cut: the length was written, the content was not. No fault of the server's, so no mismatch."""
    place.have(CONTENT[:500_000] + b"\0" * (500_000 if whole else 100_000))
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT
    assert origin.asked[-1] == ("/model.tar", None)


def test_a_server_with_wrong_bytes_is_a_mismatch_though_the_part_was_wrong_too(
    place: Place, origin: StaticServer
) -> None:
    place.have(b"\0" * 100_000)
    origin.answers["model.tar"] = lambda handler: handler.answer(200, b"\0" * len(CONTENT))
    place.fails("mismatch", origin.origin)
    assert not place.part.exists()


def test_a_link_in_the_place_of_the_part_is_not_written_through(place: Place, origin: StaticServer) -> None:
    place.settings.partial.mkdir(parents=True)
    precious = place.settings.folder / "state"
    precious.write_bytes(b"precious")
    place.part.symlink_to(precious)
    place.fetch(origin.origin)
    assert precious.read_bytes() == b"precious"
    assert place.into.read_bytes() == CONTENT


# -- servers ---------------------------------------------------------------------------------------------------------


def whole(handler: Handler) -> None:
    handler.answer(200, CONTENT)


def wrong_start(handler: Handler) -> None:
    if handler.headers.get("Range"):
        handler.answer(206, CONTENT[1:], {"Content-Range": f"bytes 1-{len(CONTENT) - 1}/{len(CONTENT)}"})
    else:
        handler.serve()


def no_content_range(handler: Handler) -> None:
    handler.answer(206 if handler.headers.get("Range") else 200, CONTENT)


def refuses_ranges(handler: Handler) -> None:
    if handler.headers.get("Range"):
        handler.answer(416, b"", {"Content-Range": "bytes */1"})
    else:
        handler.serve()


def unknown_total(handler: Handler) -> None:
    start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    handler.answer(206, CONTENT[start:], {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/*"})


def chunked(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for at in range(0, len(CONTENT), 50_000):
        piece = CONTENT[at : at + 50_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


@pytest.mark.parametrize("answer", [whole, wrong_start, no_content_range, refuses_ranges, unknown_total, chunked])
def test_servers_that_do_ranges_in_their_own_way(
    place: Place, origin: StaticServer, answer: Callable[[Handler], None]
) -> None:
    place.have(CONTENT[:400_000])
    origin.answers["model.tar"] = answer
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT


def longer(handler: Handler) -> None:
    handler.answer(200, CONTENT + b"!")


def another_total(handler: Handler) -> None:
    handler.answer(206, b"x", {"Content-Range": "bytes 400000-400000/7"})


def compressed(handler: Handler) -> None:
    handler.answer(200, b"\x1f\x8b" + bytes(100), {"Content-Encoding": "gzip"})


def shorter_than_said(handler: Handler) -> None:
    handler.answer(200, CONTENT[:300_000], said=len(CONTENT))


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(code, b"no", {name.replace("_", "-"): at for name, at in headers.items()})


def redirected_for_ever(handler: Handler) -> None:
    handler.answer(302, b"", {"Location": "/again/model.tar"})


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"\0\xff" * 200 + b"\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (longer, "mismatch", "has 1000001 bytes, expected 1000000"),
        (another_total, "mismatch", "has 7 bytes"),
        (compressed, "mismatch", "gzip"),
        (shorter_than_said, "unreachable", ""),
        (status(404), "missing", "404"),
        (status(403), "missing", "403"),
        (status(500), "unreachable", "500"),
        (status(429), "unreachable", "429"),
        (status(204), "unreachable", "204"),
        (status(302, Location="http://192.0.2.1/model.tar"), "unreachable", "192.0.2.1"),
        (status(302, Location="file:///etc/passwd"), "unreachable", "expected https"),
        (status(302), "unreachable", "redirected"),
        (redirected_for_ever, "unreachable", "more than 5"),
        (no_http, "unreachable", ""),
    ],
)
def test_servers_that_are_refused(
    place: Place, origin: StaticServer, answer: Callable[[Handler], None], reason: str, said: str
) -> None:
    place.have(CONTENT[:400_000])
    origin.answers["model.tar"] = answer
    assert said in place.fails(reason, origin.origin)


def test_a_redirect_to_the_same_host_is_followed(place: Place, origin: StaticServer, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "web", tmp_path / "web" / "moved")
    origin.answers["/model.tar"] = lambda handler: (
        handler.serve() if "moved" in handler.path else handler.answer(301, b"", {"Location": "/moved/model.tar"})
    )
    place.have(CONTENT[:400_000])
    place.fetch(origin.origin)
    assert origin.asked[-1] == ("/moved/model.tar", "bytes=400000-")
    assert place.into.read_bytes() == CONTENT


# -- lines -----------------------------------------------------------------------------------------------------------


async def test_a_line_that_is_cut_again_and_again_costs_hardly_more(place: Place, proxy: FaultProxy) -> None:
    proxy.cut_after = 60_000
    attempts = 1
    while True:
        try:
            await asyncio.to_thread(place.fetch, proxy.origin)
            break
        except OtaError as error:
            assert error.reason == "unreachable"  # noqa: PT017
            attempts += 1
    assert place.into.read_bytes() == CONTENT
    assert 15 <= attempts <= 20
    assert proxy.passed <= 1.05 * len(CONTENT)


async def test_a_flipped_bit_on_the_way_is_noticed_and_the_next_attempt_is_right(
    place: Place, proxy: FaultProxy
) -> None:
    proxy.flip_at = 700_000
    await asyncio.to_thread(place.fails, "mismatch", proxy.origin)
    assert not place.part.exists()
    proxy.flip_at = None
    await asyncio.to_thread(place.fetch, proxy.origin)
    assert place.into.read_bytes() == CONTENT


async def test_a_server_that_falls_silent_is_given_up_and_what_came_is_kept(place: Place, proxy: FaultProxy) -> None:
    proxy.swallow_after = 200_000
    await asyncio.to_thread(place.fails, "unreachable", proxy.origin)
    assert place.part.stat().st_size > 150_000
    proxy.swallow_after = None
    await asyncio.to_thread(place.fetch, proxy.origin)
    assert place.into.read_bytes() == CONTENT
    assert proxy.passed <= 1.05 * len(CONTENT)


def test_nobody_listening_is_unreachable(place: Place) -> None:
    assert "127.0.0.1" in place.fails("unreachable", "http://127.0.0.1:9")


async def test_a_line_below_the_slowest_rate_is_given_up_and_what_came_is_kept(
    place: Place, origin: StaticServer
) -> None:
    """Time is the test's: each read of the socket takes six seconds."""
    passed = iter(range(0, 10**6, 6))
    message = place.fails("slow", origin.origin, slowest=100_000, monotonic=lambda: float(next(passed)))
    assert "expected 100000" in message
    assert 0 < place.part.stat().st_size < len(CONTENT)


def test_the_rate_is_an_average_over_a_minute() -> None:
    now = [0.0]
    pace = Pace(500, lambda: now[0])
    pace.count(30_000, "url")
    now[0] = WINDOW_S - 0.1
    pace.count(0, "url")  # a pause is no reason yet
    now[0] = WINDOW_S
    pace.count(0, "url")  # 500 bytes/s
    now[0] = 2 * WINDOW_S
    with pytest.raises(OtaError) as caught:
        pace.count(29_999, "url")
    assert caught.value.reason == "slow"


# -- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_in_the_middle_gets_its_space_back(place: Place, origin: StaticServer) -> None:
    with largest_file(300_000):
        place.fails("disk", origin.origin)
    assert not place.part.exists()
    place.fetch(origin.origin)
    assert place.into.read_bytes() == CONTENT


def test_nothing_is_begun_that_would_not_fit(
    place: Place, origin: StaticServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE_BYTES", 1 << 60)
    assert "to spare" in place.fails("disk", origin.origin)
    assert origin.asked == []


def test_a_folder_that_cannot_be_written_is_said(place: Place, origin: StaticServer) -> None:
    place.settings.folder.mkdir()
    place.settings.partial.write_bytes(b"in the way")
    place.fails("disk", origin.origin)


def test_old_parts_are_removed(place: Place, origin: StaticServer) -> None:
    place.have(CONTENT[:1_000])
    os.utime(place.part, (1, 1))
    for age in range(5):
        other = place.settings.partial / f"{age:064x}.part"
        other.write_bytes(b"x")
        os.utime(other, (10 - age, 10 - age))
    (place.settings.partial / "stray").mkdir()
    (place.settings.partial / "stray" / "file").write_bytes(b"x")
    (place.settings.partial / "link.part").symlink_to("/etc/passwd")
    place.fetch(origin.origin)
    assert sorted(path.name for path in place.settings.partial.iterdir()) == [f"{age:064x}.part" for age in (0, 1)]
    assert origin.asked == [("/model.tar", "bytes=1000-")]


def test_it_has_its_name_only_after_it_is_durable(
    place: Place, origin: StaticServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        done.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        real_fsync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return real_replace(path, target)

    place.into.parent.mkdir(parents=True)
    place.settings.partial.mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    place.fetch(origin.origin)
    assert done[-4:] == [f"sync {place.part.name}", f"name {SHA256}", "sync blobs", "sync partial"]
