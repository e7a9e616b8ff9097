"""A pytest plugin: python-tuf's tests get our updater where they ask for python-tuf's."""

from __future__ import annotations

from typing import Any

import tuf.ngclient
from tuf.ngclient import Updater

from edge_agent.ota.trust.client import PowerSafeUpdater


class OurUpdater(PowerSafeUpdater):
    """Made as python-tuf's is made; all else is ours."""

    def __init__(self, *args: Any, **options: Any) -> None:
        Updater.__init__(self, *args, **options)


tuf.ngclient.Updater = OurUpdater  # type: ignore[misc]
