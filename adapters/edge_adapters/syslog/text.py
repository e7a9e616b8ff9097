"""The body for people: one sentence, then what it rests on. Pure."""

from __future__ import annotations

from edge_adapters.syslog.facts import Facts


def text(known: Facts, *, brief: bool = False) -> str:
    """One line; ``brief`` leaves the grounds out."""
    words = [word for word in (known.severity and known.severity.value, known.state and known.state.value) if word]
    head = f"[{' '.join(words)}] " if words else ""
    summary = known.summary or known.subject
    grounds = [] if brief else _grounds(known)
    return f"{head}{summary}{' (' + '; '.join(grounds) + ')' if grounds else ''}"


def _grounds(known: Facts) -> list[str]:
    sensors = ", ".join(f"{part['sensor']} {float(part.get('share') or 0.0):.0%}" for part in known.sensors[:5])
    parts = {
        "sensors": sensors,
        "areas": ", ".join(known.areas),
        "rules": ", ".join(known.rules),
        "looks like": ", ".join(str(match.get("title") or match.get("pattern")) for match in known.patterns),
        "ATT&CK": ", ".join(known.techniques),
        "p": "" if known.p_value is None else f"{known.p_value:.2g}",
        "suppressed": known.suppressed,
        "incident": known.incident,
    }
    return [f"{name} {value}" for name, value in parts.items() if value]
