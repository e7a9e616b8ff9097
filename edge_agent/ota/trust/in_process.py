"""Trust in a thread of this process: the same work without the fence around it, for simulations of many gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_agent.ota.ports import Checked
from edge_agent.ota.ring import Target
from edge_agent.ota.trust.download import Wanted
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import Patience
from edge_agent.ota.trust.work import check, fetch

_T = TypeVar("_T")


class InProcessTrust:
    """Implements :class:`~edge_agent.ota.ports.Trust`. It loads ``tuf`` here: not for the agent itself, which has
    :class:`~edge_agent.ota.trust.child.ChildTrust`. Cancelled, it waits for its thread, which ends at its next step."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def check(self, origin: str, ring: str, now_s: float) -> Checked:
        """As of :class:`~edge_agent.ota.ports.Trust`."""
        vouched = await self._run(lambda patience: check(self._settings, origin, ring, now_s, patience))
        return Checked(vouched.ring_file, vouched.signed_s, vouched.expires_s, vouched.version)

    async def fetch(self, origin: str, target: Target, now_s: float, into: Path) -> None:
        """As of :class:`~edge_agent.ota.ports.Trust`."""
        wanted = Wanted(target.path, target.sha256, target.bytes)
        await self._run(lambda patience: fetch(self._settings, origin, wanted, now_s, into, patience))

    async def _run(self, work: Callable[[Patience], _T]) -> _T:
        patience = Patience(self._settings.timeout_s)
        running = asyncio.get_running_loop().run_in_executor(None, work, patience)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            patience.stop()
            await asyncio.wait([running])
            running.exception()  # seen: it was ended on purpose
            raise
