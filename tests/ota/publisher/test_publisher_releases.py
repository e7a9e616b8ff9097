from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from bundle_factory import make_files
from publisher_rig import Client, Clock, place

from edge_agent.bundle import read_bundle
from edge_agent.errors import BundleError, OtaError
from edge_agent.ota.publisher import Repository
from edge_agent.ota.ring import Activate, Activation, ModelTarget, Trial

Bundles = dict[str, Path]


def reason(error: pytest.ExceptionInfo[OtaError]) -> str:
    return error.value.reason


def test_what_is_published_reaches_a_client_as_it_was(
    repository: Repository, client: Client, bundles: Bundles, tmp_path: Path
) -> None:
    done = repository.publish(bundles["1.0.0"], trial=Trial(seconds=60, ticks=10), hardware=("rpi4",))
    ring = client.ring("canary")
    assert done.published
    assert ring is not None
    assert isinstance(ring.model, ModelTarget)
    assert (ring.release, ring.counter, ring.trial.seconds, ring.hardware) == ("tiny-1.0.0", 1, 60, ("rpi4",))
    raw = client.get(ring.model.path)
    assert raw is not None
    assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (ring.model.sha256, ring.model.bytes)
    (tmp_path / "model.tar").write_bytes(raw)
    assert read_bundle(tmp_path / "model.tar").sha256 == ring.model.bundle == read_bundle(bundles["1.0.0"]).sha256
    assert client.ring("early") is None


def test_tar_of_a_bundle_is_the_same_each_time_whatever_it_came_in(
    repository: Repository, bundles: Bundles, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(bundles["1.0.0"], "some-folder")
    repository.publish(bundles["1.0.0"])
    first = repository.ring("canary")
    repository.publish(packed)
    second = repository.ring("canary")
    assert first is not None
    assert second is not None
    assert (second.model, second.counter) == (first.model, 2)


def test_counter_grows_over_all_rings_and_actions(repository: Repository, client: Client, bundles: Bundles) -> None:
    assert repository.publish(bundles["1.0.0"], rings=("canary", "early")).counters == {"canary": 1, "early": 2}
    assert repository.promote("tiny-1.0.0", "early", "stable").counters == {"stable": 3}
    assert repository.activate("canary", Activate(mode=Activation.NOW)).counters == {"canary": 4}
    assert repository.halt("early", "test").counters == {"early": 5}
    halted, stable = client.ring("early"), client.ring("stable")
    assert halted is not None
    assert stable is not None
    assert (halted.halt, stable.halt) == (True, False)


def test_rollback_is_a_new_ring_file_that_names_the_old_model_and_denies_the_new_one(
    repository: Repository, client: Client, bundles: Bundles
) -> None:
    repository.publish(bundles["1.0.0"])
    old = client.ring("canary")
    repository.publish(bundles["1.1.0"])
    bad = client.ring("canary")
    repository.rollback("canary", "tiny-1.0.0", why="shakes")
    again = client.ring("canary")
    assert old is not None
    assert bad is not None
    assert again is not None
    assert isinstance(bad.model, ModelTarget)
    assert (again.model, again.release, again.counter) == (old.model, "tiny-1.0.0", 3)
    assert again.denied == (bad.model.bundle,)
    assert (again.activate.mode, again.shadow.seconds) == (Activation.NOW, 0)
    with pytest.raises(OtaError, match="was denied for ever") as refused:
        repository.publish(bundles["1.1.0"])
    assert reason(refused) == "denied"


def test_the_factory_model_can_always_be_gone_back_to(repository: Repository, client: Client, bundles: Bundles) -> None:
    repository.publish(bundles["1.0.0"])
    repository.rollback("canary", "factory", deny=False)
    ring = client.ring("canary")
    assert ring is not None
    assert (ring.model, ring.release, ring.denied) == ("factory", "factory", ())


def test_configuration_and_model_of_a_ring_stay_when_the_other_is_published(
    repository: Repository, client: Client, bundles: Bundles, tmp_path: Path
) -> None:
    config = tmp_path / "thresholds.yaml"
    config.write_text("decision: {budget: 1 per week}\n")
    repository.publish(bundles["1.0.0"])
    repository.publish_config(config)
    both = client.ring("canary")
    repository.publish(bundles["1.1.0"])
    newer = client.ring("canary")
    assert both is not None
    assert newer is not None
    assert both.config is not None
    assert isinstance(both.model, ModelTarget)
    assert both.model.path.endswith("tiny-1.0.0.tar")
    assert newer.config == both.config
    assert client.get(both.config.path) == config.read_bytes()


def test_rings_with_different_configurations_do_not_get_one_release(
    repository: Repository, bundles: Bundles, tmp_path: Path
) -> None:
    config = tmp_path / "thresholds.yaml"
    config.write_text("decision: {budget: 1 per week}\n")
    repository.publish_config(config, rings=("early",))
    with pytest.raises(OtaError, match="have not the same config"):
        repository.publish(bundles["1.0.0"], rings=("canary", "early"))


def test_same_version_with_another_content_is_refused(repository: Repository, bundles: Bundles, tmp_path: Path) -> None:
    repository.publish(bundles["1.0.0"])
    other = place(tmp_path / "other", make_files(version="1.0.0", warmup_ticks=21))
    with pytest.raises(OtaError, match="was published with another content; give the bundle a new version"):
        repository.publish(other)


def test_one_name_never_means_two_releases(repository: Repository, bundles: Bundles) -> None:
    repository.publish(bundles["1.0.0"], release="spring")
    with pytest.raises(OtaError, match="there is another release of that name"):
        repository.publish(bundles["1.1.0"], release="spring")
    with pytest.raises(OtaError, match="stands for the built-in model"):
        repository.publish(bundles["1.1.0"], release="factory")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda r: r.promote("tiny-9", "canary", "early"), "got release 'tiny-1.0.0', expected 'tiny-9'"),
        (
            lambda r: r.promote("tiny-1.0.0", "canary", "eary"),
            "got ring 'eary', expected one of .* did you mean 'early'",
        ),
        (lambda r: r.halt("stable"), "stable: has no release yet"),
        (lambda r: r.rollback("canary", "tiny-0"), "got 'tiny-0', expected a release that is kept here: tiny-1.0.0"),
        (
            lambda r: r.publish(Path("nowhere"), family="pumps"),
            "got family 'pumps', expected one of default; .* add-key",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    repository: Repository, bundles: Bundles, act: object, message: str
) -> None:
    repository.publish(bundles["1.0.0"])
    before = (repository.served / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(OtaError, match=message):
        act(repository)  # type: ignore[operator]
    assert (repository.served / "metadata" / "timestamp.json").read_bytes() == before


def test_halted_release_goes_nowhere(repository: Repository, bundles: Bundles) -> None:
    repository.publish(bundles["1.0.0"])
    repository.halt("canary")
    with pytest.raises(OtaError, match="was halted there; publish another release"):
        repository.promote("tiny-1.0.0", "canary", "early")
    with pytest.raises(OtaError, match="halted already"):
        repository.halt("canary")


def hostile_tars(folder: Path, good: Path) -> dict[str, Path]:
    """What a gateway would refuse, as tars."""

    def packed(name: str, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
        path = folder / f"{name}.tar"
        with tarfile.open(path, "w") as archive:
            for file in good.iterdir():
                archive.add(file, file.name)
            for member, raw in members:
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
        return path

    link = tarfile.TarInfo("extra")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    huge = folder / "huge.tar"
    with huge.open("wb") as file:
        file.truncate((224 << 20) + 1)
    cut = folder / "cut.tar"
    cut.write_bytes(packed("whole").read_bytes()[:3_000])
    return {
        "traversal": packed("traversal", (tarfile.TarInfo("../../evil"), b"x")),
        "link": packed("link", (link, b"")),
        "surplus": packed("surplus", (tarfile.TarInfo("surplus.bin"), b"x")),
        "huge": huge,
        "cut": cut,
        "nothing": folder / "nothing.tar",
    }


@pytest.mark.parametrize("kind", ["traversal", "link", "surplus", "huge", "cut", "nothing"])
def test_bundle_that_a_gateway_would_refuse_is_not_published(
    repository: Repository, bundles: Bundles, tmp_path: Path, kind: str
) -> None:
    path = hostile_tars(tmp_path, bundles["1.0.0"])[kind]
    with pytest.raises(BundleError, match=path.name):
        repository.publish(path)
    assert repository.ring("canary") is None
    assert not list((repository.served / "targets").rglob("*.tar"))


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n", "a: [\n", "1: 2\n", "\x00"])
def test_file_that_is_no_configuration_is_not_published(repository: Repository, tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(OtaError, match=r"config\.yaml") as refused:
        repository.publish_config(path)
    assert reason(refused) == "config"


def test_large_first_ring_is_not_risked_at_once_unless_it_is_asked_for(
    repository: Repository, bundles: Bundles
) -> None:
    settings = repository.folder / "repo.yaml"
    settings.write_text("rings: {canary: {gateways: 1000}, stable: {}}\n")
    repository.publish(bundles["1.0.0"], activate=Activate(mode=Activation.NOW), trial=Trial(seconds=600))
    paced = repository.ring("canary")
    repository.publish(bundles["1.1.0"], activate=Activate(mode=Activation.NOW, spread_s=20))
    at_once = repository.ring("canary")
    assert paced is not None
    assert at_once is not None
    assert (paced.activate.spread_s, at_once.activate.spread_s) == (82_500, 20)


def test_prune_keeps_what_rings_and_the_newest_releases_need(
    repository: Repository, client: Client, bundles: Bundles, clock: Clock
) -> None:
    for version in bundles:
        clock.ahead += clock.ahead.resolution * 2_000_000
        repository.publish(bundles[version], rings=("canary",))
    repository.promote("tiny-1.2.0", "canary", "early")
    done = repository.prune(keep=2)
    assert (done.details["targets"], done.details["releases"]) == (
        ["models/default/tiny-1.0.0.tar"],
        ["tiny-1.0.0"],
    )
    names = sorted(path.name.split(".", 1)[1] for path in (repository.served / "targets").rglob("*.tar"))
    assert names == ["tiny-1.1.0.tar", "tiny-1.2.0.tar"]
    assert len(list((repository.served / "targets" / "rings").iterdir())) == 2
    assert client.ring("canary") is not None
    with pytest.raises(OtaError, match=r"expected a release that is kept here: tiny-1\.1\.0, tiny-1\.2\.0"):
        repository.rollback("canary", "tiny-1.0.0")
    repository.rollback("canary", "tiny-1.1.0")
