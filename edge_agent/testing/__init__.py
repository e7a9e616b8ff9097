"""Conformance kit: what every adapter has to do, as checks that its own tests call.

::

    async def test_acme_source_conforms():
        async with acme_simulator() as simulator:
            await check_source(SOURCE, {"type": "acme", "port": simulator.port}, feed=simulator.send_a_reading)

A check that fails raises :class:`ConformanceError` with the rule that was broken.
"""

from edge_agent.testing.announcement import check_announcement
from edge_agent.testing.rule import ConformanceError
from edge_agent.testing.sinks import check_sink
from edge_agent.testing.sources import CollectingEmitter, check_source
from edge_agent.testing.uplinks import CollectingPort, check_uplink, sample_report

__all__ = [
    "CollectingEmitter",
    "CollectingPort",
    "ConformanceError",
    "check_announcement",
    "check_sink",
    "check_source",
    "check_uplink",
    "sample_report",
]
