"""A template as an option: text in the configuration, checked when the configuration is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from edge_agent.templates.plain import plain_text, title
from edge_agent.verdict import Event, EventKind

if TYPE_CHECKING:
    from edge_agent.templates.sandbox import Compiled

VARIABLES: Final = ("id", "kind", "time", "replayed", "agent", "severity", "title", "text", "body", "incident")
"""What a template may use; ``incident`` and ``severity`` are None in other events, ``body`` is in all."""


class Template:
    """A Jinja2 template that was read without a mistake; equal to another one of the same source.

    As the type of an option it takes text. ``source`` is that text.
    """

    __slots__ = ("_compiled", "source")

    def __init__(self, source: str) -> None:
        """Read ``source``. :raises ValueError: what is wrong with it, and in which line."""
        from edge_agent.templates.sandbox import Compiled

        self.source = source
        self._compiled: Compiled = Compiled(source, VARIABLES)

    def render(self, event: Event, longest: int | None = None) -> str:
        """The text for ``event``, of at most ``longest`` characters. :raises ValueError: it fails on this event."""
        if longest is None:
            return self._compiled.render(variables(event))
        return self._compiled.render(variables(event), longest)

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def validate(value: Any) -> Template:
            if isinstance(value, Template):
                return value
            if isinstance(value, str):
                return cls(value)
            raise ValueError(f"got {value!r}, expected the text of a template such as '{{{{ title }}}}'")

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda template: template.source)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "examples": ["{{ title }}"]}


def variables(event: Event) -> Mapping[str, Any]:
    """Values of :data:`VARIABLES` for ``event``."""
    message = event.message()
    incident = event.body if event.kind is EventKind.INCIDENT else None
    return {
        "id": event.id,
        "kind": event.kind.value,
        "time": message["time"],
        "replayed": event.replayed,
        "agent": event.body.get("agent"),
        "severity": None if incident is None else incident.get("severity"),
        "title": title(event),
        "text": plain_text(event),
        "body": event.body,
        "incident": incident,
    }
