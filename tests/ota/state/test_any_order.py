"""Whatever happens in whatever order, what must hold holds after each of it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from updater_rig import Package, Rig, config_target, ring_of

from edge_agent.contract import Hint
from edge_agent.errors import OtaError
from edge_agent.ota.boot import AUDIT
from edge_agent.ota.chain import verify
from edge_agent.ota.state import Phase, Result

WORKING = {Phase.DOWNLOADING, Phase.VERIFIED, Phase.PROBED, Phase.STAGED, Phase.SHADOW, Phase.TRIAL}
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where a sync costs nothing
MODELS = ["A", "B", "C", "factory", None]

publishing = st.fixed_dictionaries(
    {
        "do": st.just("publish"),
        "model": st.sampled_from(MODELS),
        "config": st.sampled_from([None, b"graph: {}\n", b"rules: []\n"]),
        "mode": st.sampled_from(["now", "now", "stage"]),
        "shadow": st.sampled_from([0, 5]),
        "denied": st.lists(st.sampled_from("ABC"), max_size=1),
        "halt": st.sampled_from([False, False, False, True]),
        "step": st.sampled_from([1, 1, 1, 2, 0, -1]),
    }
)
small = st.sampled_from(["look", "hint", "wait", "long", "crash", "sick", "well", "activate", "back", "way", "away"])
actions = st.lists(st.one_of(publishing, publishing, small.map(lambda do: {"do": do})), min_size=3, max_size=14)


class Life:
    """A gateway, what was done to it, and what was seen of it."""

    def __init__(self, folder: Path, packages: dict[str, Package]) -> None:
        self.rig = Rig(folder)
        self.packages = packages
        self.counter = 0
        self.floor = 0
        self.serial = -1

    async def lives(self, plan: list[dict[str, Any]]) -> None:
        while plan:
            async with self.rig.started():
                self.check()
                while plan:
                    action = plan.pop(0)
                    if action["do"] == "crash":
                        break
                    await self.act(action)
                    self.check()

    async def act(self, action: dict[str, Any]) -> None:
        rig, updater = self.rig, self.rig.updater
        match action["do"]:
            case "publish":
                self.publish(action)
                await rig.look()
            case "look":
                await rig.look()
            case "hint":
                updater.look(Hint())
                await rig.passes(10)
            case "wait" | "long":
                await rig.passes(5 if action["do"] == "wait" else 70)
            case "sick":
                rig.sick.update({package.bundle.sha256: {"detector_failures": 1} for package in self.packages.values()})
            case "well":
                rig.sick.clear()
            case "away":
                rig.trust.error = None if rig.trust.error else OtaError("unreachable", "no route")
            case "activate":
                with suppress(OtaError):
                    await updater.activate("ann")
            case "back":
                with suppress(OtaError):
                    await updater.roll_back("ann")
            case "way":
                await updater.give_way("ann")
        await rig.settle()

    def publish(self, action: dict[str, Any]) -> None:
        self.counter = max(1, self.counter + action["step"])
        name, content = action["model"], action["config"]
        fields: dict[str, Any] = {"halt": action["halt"], "shadow": {"seconds": action["shadow"], "ticks": 0}}
        fields["denied"] = [self.packages[letter].bundle.sha256 for letter in action["denied"]]
        fields["activate"] = {"mode": action["mode"], "spread_s": 0 if action["mode"] == "now" else 20}
        fields["model"] = self.packages[name].target if name in self.packages else name
        fields["config"] = None if content is None else config_target(content)
        contents = [package.tar for package in self.packages.values()] + ([content] if content else [])
        self.rig.trust.publish(ring_of(self.counter, **fields), *contents)

    def check(self) -> None:
        state, rig = self.rig.state, self.rig
        assert not rig.running.done()
        assert state == rig.updater.state
        assert (state.release is not None) == (state.phase in WORKING)
        assert state.serial >= self.serial
        floor = state.floors["stable"].counter if state.floors else 0
        assert floor >= self.floor
        self.floor, self.serial = floor, state.serial
        denied = {item.sha256 for item in state.denied}
        assert rig.host.in_force.model not in denied
        assert rig.loaded() == rig.host.in_force
        assert rig.host.in_force.config == state.config
        assert (rig.host.shadowing is not None) == (state.phase is Phase.SHADOW)
        if state.outcome is not None and state.outcome.result is Result.COMMITTED:
            assert state.last_success_s is not None
        assert verify(rig.data_dir / "ota" / AUDIT, rig.updater.report().audit_head) is None
        assert len(list((rig.data_dir / "ota").glob("blobs/*"))) <= 3 + 4


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions)
def test_what_must_hold_holds(packages: dict[str, Package], plan: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        asyncio.run(Life(Path(folder), packages).lives(list(plan)))
