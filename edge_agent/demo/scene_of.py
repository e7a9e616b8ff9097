"""From the board to a :class:`~edge_agent.demo.view.Scene`: numbers become text, scores become heat."""

from __future__ import annotations

from edge_agent.demo.board import Board
from edge_agent.demo.tags import STAGES, TAGS, Protocol, Tag
from edge_agent.demo.view import Reading, Scene, StageScene
from edge_agent.pipeline.engine import TickReport
from edge_agent.verdict import Incident, IncidentState

_UNUSUAL, _VERY = 9.0, 36.0
"""Scores from which a tag is coloured: about three and six times its usual deviation."""

_PROTOCOL_NAMES = {
    Protocol.MQTT: "MQTT",
    Protocol.MODBUS: "Modbus",
    Protocol.COAP_OBSERVE: "CoAP",
    Protocol.COAP_POST: "CoAP",
}


def scene_of(board: Board, model: str, footer: str) -> Scene | None:
    """What to draw now; None before the first tick."""
    report = board.report
    if report is None:
        return None
    decision = report.decision
    return Scene(
        state=_state(report, board),
        model=model,
        tick=board.ticks,
        latency_ms=sum(report.stages_ns) / 1e6,
        score=decision.plant_score,
        p_values=tuple(board.p_values),
        stages=_stages(report),
        attack=_attack(board),
        incidents=tuple(_incident(incident) for incident in reversed(board.recent)),
        tally=f"{board.found} of {board.attacks} attacks found",
        footer=footer,
    )


def _state(report: TickReport, board: Board) -> str:
    if report.decision.warming_up:
        return "warming up"
    watching = f"{len(board.open)} open" if board.open else "watching"
    return f"{watching} (statistical fallback)" if report.degraded else watching


def _attack(board: Board) -> str | None:
    if board.attack is None:
        return None
    return f"{board.attack.name}, {board.ticks - board.attack.since_tick} s: {board.attack.description}"


def _incident(incident: Incident) -> tuple[bool, str]:
    return incident.state is not IncidentState.CLOSED, f"[{incident.severity}] {incident.summary}"


def _stages(report: TickReport) -> tuple[StageScene, ...]:
    index = {name: i for i, name in enumerate(report.snapshot.sensors)}
    return tuple(
        StageScene(
            title,
            ", ".join(dict.fromkeys(_PROTOCOL_NAMES[tag.protocol] for tag in TAGS if tag.stage == stage)),
            tuple(_reading(tag, index.get(tag.name), report) for tag in TAGS if tag.stage == stage),
        )
        for stage, title in STAGES.items()
    )


def _reading(tag: Tag, index: int | None, report: TickReport) -> Reading:
    if index is None or not report.snapshot.usable[index]:
        return Reading(tag.name, "–", None)
    value = float(report.snapshot.value[index])
    score = float(report.scores.score[index])
    heat = 2 if score >= _VERY else 1 if score >= _UNUSUAL else 0
    return Reading(tag.name, _shown(tag, value), heat)


def _shown(tag: Tag, value: float) -> str:
    if tag.switch:
        return "on" if value >= 0.5 else "off"
    decimals = max(0, min(2, len(f"{tag.resolution:g}".partition(".")[2])))
    return f"{value:.{decimals}f}"
