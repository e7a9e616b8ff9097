from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, MosquittoProcess

sys.path.insert(0, str(Path(__file__).parent.parent / "inference"))

from ota_site import Gateway, Plant, Site, plant_of  # after the path to its bundles


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MosquittoProcess]:
    if shutil.which("mosquitto") is None:
        pytest.fail("mosquitto is not installed; `make test` installs it")
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    process = MosquittoProcess(folder).start()
    yield process
    process.stop()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., DaemonProcess]]:
    made: list[DaemonProcess] = []

    def make(config: str, *, environ: dict[str, str] | None = None) -> DaemonProcess:
        folder = tmp_path / f"agent-{len(made)}"
        folder.mkdir()
        made.append(DaemonProcess(folder, config, environ=environ))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture
def site(tmp_path: Path, broker: MosquittoProcess) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(folder, broker)
    site.serve()
    yield site
    site.stop()


@pytest.fixture
def plant(broker: MosquittoProcess) -> Iterator[Plant]:
    with plant_of(broker) as plant:
        yield plant


@pytest.fixture
def gateway(site: Site, daemon: Callable[..., DaemonProcess]) -> Gateway:
    """Not started; its configuration is that of the site."""
    return Gateway(daemon(site.config()))
