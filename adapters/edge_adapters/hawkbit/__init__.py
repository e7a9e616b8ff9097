"""Eclipse hawkBit: its deployments make the gateway look, and it is told how they went."""

from __future__ import annotations

from edge_adapters.hawkbit.options import HawkbitOptions
from edge_agent.contract import AdapterContext, Uplink, UplinkAdapter

__all__ = ["UPLINK"]


def _uplink(options: HawkbitOptions, context: AdapterContext) -> Uplink:
    from edge_adapters.hawkbit.uplink import HawkbitUplink

    return HawkbitUplink(options, context)


UPLINK = UplinkAdapter(
    name="hawkbit",
    summary="Updates: deployments of an Eclipse hawkBit server (DDI) as hints, its feedback as status reports.",
    options=HawkbitOptions,
    build=_uplink,
)
