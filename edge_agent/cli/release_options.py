"""Words on the command line about a release, as options of the publisher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent.errors import ConfigError
from edge_agent.options import parse_duration
from edge_agent.ota.publisher import Wanted
from edge_agent.ota.ring import Activate, Activation, first_mistake


def activation(text: str, spread: str | None) -> Activate:
    """``stage``, ``now`` or a moment (RFC 3339). :raises ConfigError: it is none of them."""
    try:
        spread_s = {} if spread is None else {"spread_s": parse_duration(spread)}
        if text in (Activation.STAGE, Activation.NOW):
            return Activate.model_validate({"mode": text, **spread_s})
        return Activate.model_validate({"mode": Activation.AT, "at": text, **spread_s})
    except ValidationError as error:
        raise ConfigError(f"activate: {first_mistake(error)}; expected stage, now or 2027-01-31T06:00:00Z") from error
    except ValueError as error:
        raise ConfigError(f"spread: {error}") from error


def wanted(given: dict[str, Any]) -> Wanted:
    """What was asked for on the command line. :raises ConfigError: an option has no such value."""
    plain = dict(given)
    phases = {name: _phase(plain.pop(name), plain.pop(f"{name}_ticks"), name) for name in ("shadow", "trial")}
    limits = {name: plain.pop(name) for name in ("p99_ms", "rss_mb")}
    moment = activation(plain.pop("activate"), plain.pop("spread"))
    try:
        return Wanted.model_validate({**plain, **phases, "limits": limits, "activate": moment})
    except ValidationError as error:
        raise ConfigError(first_mistake(error)) from error


def troubles_of_config(raw: bytes, name: str) -> tuple[str, ...]:
    """What a gateway with default settings and no sensors would say of these sections of the configuration."""
    from edge_agent.config.layers import Overlay
    from edge_agent.config.loader import parse_config

    try:
        parse_config("sources: {}\n", Path(name).absolute(), sources_required=False, overlay=Overlay(raw, name))
    except ConfigError as error:
        return error.problems
    return ()


def _phase(duration: str | None, ticks: int | None, name: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if duration is not None:
        try:
            plain["seconds"] = parse_duration(duration)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
        if plain["seconds"] == 0 and ticks is None:
            plain["ticks"] = 0
    return plain if ticks is None else {**plain, "ticks": ticks}
