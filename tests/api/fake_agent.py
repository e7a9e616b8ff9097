"""An agent for the API tests: plain values, real behaviour, every call remembered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import BundleError, ConfigError, ControlError
from edge_agent.metrics import Metrics
from edge_agent.verdict import Feedback

ORDER: dict[str, Any] = {
    "id": "01KORDER000000000000000000",
    "sensors": ["pump.*"],
    "areas": ["boiler"],
    "created": "2026-11-20T10:45:00.000Z",
    "until": "2026-11-20T12:45:00.000Z",
    "by": "kim",
    "note": "pump test",
}
OTA: dict[str, Any] = {
    "phase": "shadow",
    "ring": "stable",
    "release": {"release": "pump-2026.11.20-3", "counter": 1234, "model": "cd" * 32, "config": None},
    "in_force": {"model": "ab" * 32, "config": None},
    "before": None,
    "model": {"name": "site", "version": "2.0.0", "sha256": "ab" * 32},
    "previous": None,
    "metadata_expired": True,
    "trial": None,
    "comparison": {
        "ticks": 412,
        "failures": 0,
        "distance": 0.043,
        "alarms": 0.0,
        "alarms_in_use": 1.0,
        "p99_ms": 1.2,
        "p99_ms_in_use": 1.1,
        "details": {"scored": 412, "judged": 0, "skipped": 2, "level": 0.01, "agreement": 0.97, "trouble": None},
    },
    "outcome": {
        "release": "pump-2026.11.12-1",
        "counter": 1200,
        "result": "rolled_back",
        "reason": "errors",
        "message": "the model failed at 3 of 60 ticks, expected none",
        "time": "2026-11-12T10:45:00Z",
    },
    "problem": "metadata of the repository have expired on 2026-11-19",
    "denied": [{"sha256": "ef" * 32, "reason": "errors"}],
    "floors": {"stable": 1234},
}
HOSTILE_NAME = "</td><script>document.title='owned'</script>"


def incident(number: int, state: str = "open") -> dict[str, Any]:
    return {
        "id": f"01J{number:023d}",
        "kind": "process",
        "state": state,
        "severity": "high",
        "opened": "2026-11-20T10:42:07.125Z",
        "updated": "2026-11-20T10:43:07.125Z",
        "closed": None if state != "closed" else "2026-11-20T10:44:07.125Z",
        "p_value": 1e-6,
        "score": 9.5,
        "summary": "tank level no longer follows its inflow",
        "first_mover": "plant/tank 1/level",
        "areas": ["intake"],
        "rules": [],
        "acknowledged": None,
        "suppressed": None,
        "flapping": False,
        "reopened": 2,
        "sensors": [
            {
                "sensor": "plant/tank 1/level",
                "share": 0.8,
                "seen": 0.91,
                "expected": 0.42,
                "unit": "m",
                "reason": "reads 0.91 m",
            }
        ],
        "propagation": [
            {"sensor": "plant/tank 1/level", "tick": 10, "after_s": 0.0},
            {"sensor": "<b>flow</b>", "tick": 13, "after_s": 3.0},
        ],
        "broken_edges": [{"sensor": "plant/tank 1/level", "neighbour": "<b>flow</b>", "weight": 0.4}],
        "similar": [
            {
                "id": "01J0",
                "opened": "2026-11-19T10:42:07.125Z",
                "similarity": 0.93,
                "summary": "tank level rises",
                "feedback": "false_alarm",
            }
        ],
        "series": {"plant/tank 1/level": [0.4, None, 0.7, 0.91]},
        "expected_series": {"plant/tank 1/level": [0.4, 0.41, 0.42, 0.42]},
        "series_first": "2026-11-20T10:42:04.125Z",
        "series_step_s": 1.0,
    }


class FakeAgent:
    """Implements ``AgentControl``."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.calls: list[tuple[str, ...]] = []
        self.uploaded: bytes | None = None
        self.ready = (True, list[str]())
        self.alive = (True, list[str]())
        self.release = asyncio.Event()
        self.release.set()
        self.broken = False
        self.refused: list[tuple[str, str, str]] = []

    def status(self) -> dict[str, Any]:
        if self.broken:
            raise ZeroDivisionError("a defect")
        return {
            "name": "gateway-7",
            "version": "0.1.0",
            "tick": np.int64(42),
            "p_value": float("nan"),
            "model": {"name": "universal", "version": "1.0.0"},
            "sources": {
                "plc": {"type": "modbus", "state": "connected", "waiting": 0},
                "broker": {"type": "mqtt", "state": "disconnected: refused", "waiting": 0},
            },
            "warming_up": False,
            "updates": {"ring": "stable", "phase": "shadow", "release": "pump-2026.11.20-3"},
        }

    def sensors(self) -> list[dict[str, Any]]:
        quiet = [
            {"name": f"plant/P{n}", "value": 1.25 * n, "unit": "bar", "expected": 1.2 * n, "score": 0.9, "quality": 0}
            for n in range(5)
        ]
        level = {"name": "plant/tank 1/level", "value": 0.91, "unit": "m", "expected": 0.42, "score": np.float32(9.5)}
        return [*quiet, level, {"name": HOSTILE_NAME, "value": None, "score": None}]

    def sensor(self, name: str) -> dict[str, Any] | None:
        return next((sensor for sensor in self.sensors() if sensor["name"] == name), None)

    def graph(self) -> dict[str, Any]:
        edge = {"sensor": "plant/P1", "neighbour": "plant/P2", "weight": np.float32(0.5), "kind": "learned"}
        return {"nodes": [{"name": "plant/P1"}, {"name": "plant/P2"}], "edges": [edge]}

    async def incidents(self, limit: int, state: str | None, since_ns: int | None) -> list[dict[str, Any]]:
        self.calls.append(("incidents", str(limit), str(state), str(since_ns)))
        return [incident(1), incident(2, "closed")][:limit]

    async def incident(self, incident_id: str) -> dict[str, Any] | None:
        return incident(1) if incident_id == incident(1)["id"] else None

    async def judge_incident(self, incident_id: str, verdict: Feedback, note: str, actor: str) -> dict[str, Any] | None:
        self.calls.append(("judge", incident_id, verdict.value, note, actor))
        said = {
            "incident": incident_id,
            "verdict": verdict.value,
            "note": note,
            "by": actor,
            "time": "2026-11-20T10:45:00Z",
        }
        return said if incident_id == incident(1)["id"] else None

    async def acknowledge_incident(self, incident_id: str, note: str, actor: str) -> dict[str, Any] | None:
        self.calls.append(("acknowledge", incident_id, note, actor))
        if incident_id == incident(2)["id"]:
            raise ControlError(f"incident {incident_id} is closed", status=409)
        said = {"by": actor, "time": "2026-11-20T10:45:00Z", "note": note}
        return {**incident(1), "acknowledged": said} if incident_id == incident(1)["id"] else None

    def orders(self) -> list[dict[str, Any]]:
        return [ORDER]

    async def suppress(
        self, sensors: tuple[str, ...], areas: tuple[str, ...], duration_s: float, note: str, actor: str
    ) -> dict[str, Any]:
        self.calls.append(("suppress", *sensors, *areas, str(round(duration_s)), note, actor))
        return {**ORDER, "sensors": list(sensors), "areas": list(areas), "matches": 3 if sensors else 0}

    async def lift_order(self, order_id: str, actor: str) -> dict[str, Any] | None:
        self.calls.append(("lift", order_id, actor))
        return ORDER if order_id == ORDER["id"] else None

    async def audit(self, limit: int) -> list[dict[str, Any]]:
        entry = {"time": "2026-11-20T10:45:00Z", "by": "kim", "action": "suppress", "sensors": ["pump.*"], "note": ""}
        return [entry][:limit]

    async def note_refused(self, request: str, why: str, actor: str) -> None:
        self.refused.append((request, why, actor))

    def model(self) -> dict[str, Any]:
        return {"name": "universal", "version": "1.0.0", "sha256": "ab" * 32, "previous": None}

    async def swap_model(self, path: Path, actor: str) -> dict[str, Any]:
        self.calls.append(("swap", str(path), actor))
        await self.release.wait()
        if path.name == "corrupt":
            raise BundleError("bundle /corrupt: model.onnx: sha256 does not match the manifest; build it again")
        if path.is_file():
            self.uploaded = path.read_bytes()
        return {"name": "site", "version": "2.0.0"}

    async def rollback_model(self, actor: str) -> dict[str, Any]:
        self.calls.append(("rollback", actor))
        raise ControlError("there is no previous model")

    async def reload(self, actor: str) -> dict[str, Any]:
        self.calls.append(("reload", actor))
        if self.broken:
            raise ConfigError("edge.yaml:3: sources.plc.port: got 70000, expected 1 to 65535")
        return {"changed": ["sources.plc"]}

    def ota(self) -> dict[str, Any]:
        if self.broken:
            raise ControlError("updates are off: option ota.repository is not set", status=404)
        return OTA

    async def ota_check(self, actor: str) -> dict[str, Any]:
        self.calls.append(("ota check", actor))
        return OTA

    async def ota_activate(self, actor: str) -> dict[str, Any]:
        self.calls.append(("ota activate", actor))
        return OTA

    async def ota_rollback(self, actor: str) -> dict[str, Any]:
        self.calls.append(("ota rollback", actor))
        raise ControlError("nothing is staged, on trial or was installed before; there is nothing to take back")

    async def ota_sideload(self, path: Path, actor: str) -> dict[str, Any]:
        self.calls.append(("ota sideload", str(path), actor))
        return OTA

    def liveness(self) -> tuple[bool, list[str]]:
        return self.alive

    def readiness(self) -> tuple[bool, list[str]]:
        return self.ready
