"""Templates at work: tried before the start, replaced by the built-in text when they fail later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from edge_agent.templates.option import Template
from edge_agent.templates.samples import sample_events
from edge_agent.verdict import Event, EventKind

_NO_INCIDENT: Final = "; put {% if incident %} … {% endif %} around what only incidents have"
_CHOICE: Final = ", or set `events: [incident]`"


def try_templates(
    kinds: Iterable[EventKind], templates: Mapping[str, Template | None], accept: Callable[[str], str] = str
) -> None:
    """Render each of ``templates`` (by option) for sample events of ``kinds``, as the agent will make them.

    ``accept``: as for :class:`EventText`. :raises ValueError: one fails, saying option, event, line and reason.
    """
    samples = list(sample_events(kinds))
    for option, template in templates.items():
        for event in samples if template is not None else ():
            assert template is not None
            try:
                accept(template.render(event))
            except ValueError as error:
                hint = "" if event.kind is EventKind.INCIDENT else _NO_INCIDENT
                hint += "" if event.kind in (EventKind.INCIDENT, EventKind.DIGEST) else _CHOICE
                raise ValueError(f"{option}: fails for {_name(event)}: {error}{hint}") from error


class EventText:
    """The text of events for one option: by its template, or by ``built_in`` without one and when it fails.

    A failure is told to ``failed`` (option, message); the event is delivered all the same.
    """

    def __init__(
        self,
        option: str,
        template: Template | None,
        built_in: Callable[[Event], str],
        failed: Callable[[str, str], None],
        *,
        accept: Callable[[str], str] = str,
    ) -> None:
        """``accept`` takes the template's text and gives it back, or raises ValueError for one that is of no use."""
        self._option = option
        self._template = template
        self._built_in = built_in
        self._failed = failed
        self._accept = accept

    def of(self, event: Event) -> str:
        """The text for ``event``. Never raises for what a template does."""
        if self._template is None:
            return self._built_in(event)
        try:
            return self._accept(self._template.render(event))
        except ValueError as error:
            message = f"{self._option}: fails for {_name(event)} {event.id}: {error}; sent with the built-in text"
            self._failed(self._option, message)
            return self._built_in(event)


def _name(event: Event) -> str:
    if event.kind is not EventKind.INCIDENT:
        return f"a {event.kind.value} event"
    return f"the {event.body.get('state')} {event.body.get('kind')} incident"
