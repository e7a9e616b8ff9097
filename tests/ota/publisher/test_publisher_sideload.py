from __future__ import annotations

import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from publisher_rig import Client, Clock, make
from tuf.api.exceptions import ExpiredMetadataError

from edge_agent.bundle import read_bundle
from edge_agent.errors import OtaError
from edge_agent.ota.publisher import Repository
from edge_agent.ota.publisher.serving import served_folder, server
from edge_agent.ota.ring import ModelTarget, parse_ring
from edge_agent.ota.trust.in_process import InProcessTrust
from edge_agent.ota.trust.settings import Settings

Bundles = dict[str, Path]


def test_stick_is_complete_for_its_ring_and_holds_nothing_else(
    repository: Repository, bundles: Bundles, tmp_path: Path
) -> None:
    repository.publish(bundles["1.0.0"])
    repository.publish(bundles["1.1.0"], rings=("early",))
    repository.sideload(tmp_path / "stick", "canary")
    client = Client(tmp_path / "offline", tmp_path / "stick")
    ring = client.ring("canary")
    assert ring is not None
    assert client.get("models/default/tiny-1.0.0.tar") is not None
    names = sorted(path.name.split(".", 1)[1] for path in (tmp_path / "stick" / "targets").rglob("*") if path.is_file())
    assert names == ["canary.json", "tiny-1.0.0.tar"]


def test_gateway_goes_from_the_web_to_the_stick_and_back(
    repository: Repository, client: Client, bundles: Bundles, tmp_path: Path
) -> None:
    repository.publish(bundles["1.0.0"])
    assert client.ring("canary") is not None
    repository.publish(bundles["1.1.0"])
    repository.sideload(tmp_path / "stick.tar", "canary")
    with tarfile.open(tmp_path / "stick.tar") as archive:
        archive.extractall(tmp_path / "stick", filter="data")
    web, client.served = client.served, tmp_path / "stick"
    on_stick = client.ring("canary")
    client.served = web
    assert on_stick is not None
    assert on_stick == client.ring("canary")
    assert on_stick.release == "tiny-1.1.0"


def test_stick_holds_when_the_web_has_long_expired(bundles: Bundles, tmp_path: Path) -> None:
    clock = Clock()
    clock.ahead = timedelta(days=-20)
    repository = make(tmp_path / "fleet", clock)
    repository.publish(bundles["1.0.0"])
    done = repository.sideload(tmp_path / "stick", "canary", days=30)
    assert done.details["until"] > (clock() + timedelta(days=29)).isoformat()
    assert Client(tmp_path / "offline", tmp_path / "stick").ring("canary") is not None
    with pytest.raises(ExpiredMetadataError):
        Client(tmp_path / "online", repository.served).ring("canary")


def test_stick_that_cannot_be_is_refused_before_anything_is_signed(
    repository: Repository, bundles: Bundles, tmp_path: Path
) -> None:
    with pytest.raises(OtaError, match="has no release yet"):
        repository.sideload(tmp_path / "stick", "canary")
    repository.publish(bundles["1.0.0"])
    (tmp_path / "there.tar").write_bytes(b"")
    with pytest.raises(OtaError, match="exists already"):
        repository.sideload(tmp_path / "there.tar", "canary")
    with pytest.raises(OtaError, match="got 0 days"):
        repository.sideload(tmp_path / "stick", "canary", days=0)
    assert repository.status()["roles"]["timestamp"]["version"] == 2


@pytest.fixture
def address(repository: Repository) -> Iterator[str]:
    with server(served_folder(repository.folder)) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def get(address: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_lab_server_gives_whole_files_and_ranges(repository: Repository, address: str) -> None:
    whole = (repository.served / "metadata" / "1.root.json").read_bytes()
    size = len(whole)
    url = f"{address}/metadata/1.root.json"
    assert get(url)[:2] == (200, whole)
    assert get(url)[2]["Accept-Ranges"] == "bytes"
    assert get(url, Range="bytes=10-")[:2] == (206, whole[10:])
    status, part, headers = get(url, Range="bytes=10-19")
    assert (status, part, headers["Content-Range"]) == (206, whole[10:20], f"bytes 10-19/{size}")
    assert get(url, Range=f"bytes={size}-")[0] == 416
    assert get(url, Range="bytes=0-99999999")[1] == whole
    assert get(f"{address}/metadata/timestamp.json")[2]["Cache-Control"] == "no-cache"


async def test_gateway_trusts_what_the_lab_server_gives(
    repository: Repository, bundles: Bundles, address: str, tmp_path: Path, clock: Clock
) -> None:
    """With the agent's own client: the moment of signing is told, the model is fetched, a stick works too."""
    repository.publish(bundles["1.0.0"])
    now_s = clock().timestamp()
    trust = InProcessTrust(Settings(tmp_path / "ota", repository.root_file))
    checked = await trust.check(address, "canary", now_s)
    ring = parse_ring(checked.ring_file, "canary")
    assert isinstance(ring.model, ModelTarget)
    assert abs(checked.signed_s - now_s) < 60
    await trust.fetch(address, ring.model, now_s, tmp_path / "model.tar")
    assert read_bundle(tmp_path / "model.tar").sha256 == ring.model.bundle
    repository.sideload(tmp_path / "stick", "canary")
    assert (await trust.check(f"file://{tmp_path}/stick", "canary", now_s)).ring_file == checked.ring_file
    assert (await trust.check(address, "canary", now_s)).version == checked.version + 2


@pytest.mark.parametrize(
    "path", ["", "keys/root-1.pem", "metadata", "metadata/../../keys/root-1.pem", "metadata/%2e%2e/%2e%2e/repo.yaml",
             "metadata/link.json", "targets/.hidden", "metadata//1.root.json", "metadata/%00"]
)  # fmt: skip
def test_lab_server_shows_nothing_else(repository: Repository, address: str, path: str) -> None:
    (repository.served / "metadata" / "link.json").symlink_to(repository.folder / "keys" / "root-1.pem")
    assert get(f"{address}/{path}")[:2] == (404, b"")
