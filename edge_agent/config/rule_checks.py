"""What rules name, against what else the file says of sensors."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from edge_agent.config.document import Path
from edge_agent.config.schema import AgentConfig
from edge_agent.nearest import nearest
from edge_agent.pipeline.engine import sensor_options_by_pattern, states_by_name
from edge_agent.rules.binding import Bound, Scope, bind
from edge_agent.rules.options import RuleOptions
from edge_agent.rules.rules import States, is_pattern
from edge_agent.rules.signals import Signals
from edge_agent.rules.tree import Expression, ExpressionError
from edge_agent.rules.words import check_message


def wrong_rules(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    """Option path and message of each mistake in a rule that only shows beside `sensors`; disabled rules too."""
    states = states_by_sensor(config)
    for name, options in config.rules.items():
        found = list(_wrong_expressions(options, states))
        yield from ((("rules", name, option), message) for option, message in found)
        if found or options.message is None:
            continue
        try:
            check_message(options.message, _named(options, states))
        except ValueError as error:
            yield ("rules", name, "message"), str(error)


def states_by_sensor(config: AgentConfig) -> States:
    """States of a sensor by its name, empty for the usual ones."""
    return states_by_name(sensor_options_by_pattern(config.sensors.items()))


def doubtful_rules(config: AgentConfig) -> Iterator[str]:
    """Sensors that a rule names and that look misspelt: not in the file, but another one there is close to it.

    Those that a pattern of `sensors` covers are in the file. Only the running agent can say which sensors there are.
    """
    known = {name for name in config.sensors if not is_pattern(name)}
    patterns = [name for name in config.sensors if is_pattern(name) and name.strip("*")]  # `*` says nothing of names
    known |= {name for edge in config.graph.edges for name in edge}
    states = states_by_sensor(config)
    for rule, options in config.rules.items():
        for sensor in _named(options, states):
            if sensor in known or is_pattern(sensor) or any(fnmatchcase(sensor, pattern) for pattern in patterns):
                continue
            hint = nearest(sensor, known)
            if hint:
                yield f"rules.{rule}: sensor {sensor!r} is not in this file{hint}"


def _wrong_expressions(options: RuleOptions, states: States) -> Iterator[tuple[str, str]]:
    for option, expression in (("when", options.expression), ("until", options.ending)):
        messages: dict[str, None] = {}
        for sensor in options.sensors or (None,):
            try:
                _bound(expression, sensor, states)
            except ExpressionError as error:
                messages[str(error)] = None
        yield from ((option, message) for message in messages)


def _named(options: RuleOptions, states: States) -> list[str]:
    """Sensors of a rule; patterns stay what they are."""
    named = dict.fromkeys(options.sensors)
    for expression in (options.expression, options.ending):
        for sensor in options.sensors or (None,):
            bound = _bound(expression, sensor, states)
            named |= dict.fromkeys(bound.sensors if bound is not None else ())
    if options.deviation is not None and isinstance(options.deviation.target, str):
        named[options.deviation.target] = None
    return list(named)


def _bound(expression: Expression | None, sensor: str | None, states: States) -> Bound | None:
    return None if expression is None else bind(expression, Scope(Signals(1.0), states, sensor))
