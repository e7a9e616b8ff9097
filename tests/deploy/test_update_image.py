"""The script that updates the container image, with stand-ins for podman and systemd that do what a test says."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "ota" / "update-image"
OLD, NEW = (f"registry.example.com/edge-agent@sha256:{letter * 64}" for letter in "ab")
PODMAN = """#!/bin/sh
case "$1 $3" in
    "pull $NEW") echo pulled >>"$FOLDER/log" ;;
    "exec edge-agent") cat "$FOLDER/status.json"; exit 1 ;;
    "exec python3") grep -qxF "$(sed s/IMAGE=// "$IMAGE_FILE")" "$FOLDER/works" ;;
    *) exit 99 ;;
esac
"""


class Host:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image_file = folder / "image.env"
        self.image_file.write_text(f"IMAGE={OLD}\n")
        self.wants(NEW)
        self.works(OLD)
        (folder / "bin").mkdir()
        for name, script in {"podman": PODMAN, "systemctl": '#!/bin/sh\necho "$1 $2" >>"$FOLDER/log"\n'}.items():
            path = folder / "bin" / name
            path.write_text(script)
            path.chmod(0o755)

    def wants(self, image: str | None) -> None:
        (self.folder / "status.json").write_text(json.dumps({"phase": "idle", "image": image}, indent=2))

    def works(self, *images: str) -> None:
        (self.folder / "works").write_text("".join(f"{image}\n" for image in images))

    def run(self) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "FOLDER": str(self.folder),
            "NEW": NEW,
            "IMAGE_FILE": str(self.image_file),
            "STATE": str(self.folder / "state"),
            "PATIENCE_S": "1",
        }
        return subprocess.run([SCRIPT], env=given, capture_output=True, text=True, timeout=30, check=False)

    @property
    def image(self) -> str:
        return self.image_file.read_text().strip().removeprefix("IMAGE=")

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []


RESTART = "restart edge-agent-container.service"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_an_image_in_which_the_agent_becomes_ready_stays(host: Host) -> None:
    host.works(OLD, NEW)
    assert host.run().stdout == f"the agent is ready in {NEW}\n"
    assert (host.image, host.log) == (NEW, ["pulled", RESTART])
    assert host.run().returncode == 0
    assert host.log == ["pulled", RESTART], "nothing more to do"


def test_an_image_in_which_it_does_not_goes_and_is_not_tried_again(host: Host) -> None:
    done = host.run()
    assert (done.returncode, host.image) == (1, OLD)
    assert done.stderr == f"the agent was not ready in {NEW} within 1 s; back to {OLD}\n"
    assert host.log == ["pulled", RESTART, RESTART]
    assert host.run().returncode == 0
    assert len(host.log) == 3


def test_a_trial_that_was_cut_off_is_judged_by_the_next_run(host: Host) -> None:
    (host.folder / "state").mkdir()
    (host.folder / "state" / "on_trial").write_text(f"{OLD}\n")
    host.image_file.write_text(f"IMAGE={NEW}\n")
    assert host.run().returncode == 1
    assert host.image == OLD


def test_nothing_is_changed_while_the_agent_is_not_ready_anyway(host: Host) -> None:
    host.works()
    done = host.run()
    assert (done.returncode, host.image, host.log) == (0, OLD, [])
    assert "nothing is changed" in done.stderr


@pytest.mark.parametrize("name", ["evil.example.com/edge-agent", "registry.example.com/edge-agent-too", "*"])
def test_image_from_elsewhere_is_not_taken(host: Host, name: str) -> None:
    """Whoever has stolen the keys of rings could otherwise have any program run here."""
    host.wants(f"{name}@sha256:{'b' * 64}")
    done = host.run()
    assert (done.returncode, host.image, host.log) == (1, OLD, [])
    assert "expected one of registry.example.com/edge-agent (or set FROM)" in done.stderr


@pytest.mark.parametrize("image", [None, OLD])
def test_nothing_is_done_when_nothing_else_is_wanted(host: Host, image: str | None) -> None:
    host.wants(image)
    assert host.run().returncode == 0
    assert (host.image, host.log) == (OLD, [])


def test_an_image_without_digest_is_refused(host: Host) -> None:
    host.wants("registry.example.com/edge-agent:latest")
    done = host.run()
    assert (done.returncode, host.image) == (1, OLD)
    assert done.stderr == "got image registry.example.com/edge-agent:latest, expected one with its digest\n"
