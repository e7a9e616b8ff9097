"""Topic patterns with captures, such as ``plant/{area}/{sensor}`` or ``zigbee2mqtt/{device...}``."""

from __future__ import annotations

import re

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
_LONGEST_TOPIC = 65535  # bytes; MQTT 3.1.1 section 4.7.3


class TopicPattern:
    """A compiled pattern. ``filter``: what to subscribe to; ``captures``: names it fills.

    ``{name}`` or ``+`` stand for one level; ``{name...}`` or ``#``, at the end, for the rest.
    :raises ValueError: for a pattern that MQTT cannot express.
    """

    def __init__(self, text: str) -> None:
        if not text or "\0" in text or len(text.encode()) > _LONGEST_TOPIC:
            raise ValueError(f"got {text[:80]!r}, expected a topic of 1 to {_LONGEST_TOPIC} bytes")
        self.text = text
        self._captures: list[tuple[str, int]] = []
        levels = text.split("/")
        self._levels = [self._level(level, at, last=at == len(levels) - 1) for at, level in enumerate(levels)]
        self.filter = "/".join(self._levels)
        self._literal = {at: level for at, level in enumerate(self._levels) if level not in ("+", "#")}
        self._open_ended = self._levels[-1] == "#"
        self.captures = tuple(name for name, _ in self._captures)
        if len(set(self.captures)) != len(self.captures):
            raise ValueError(f"got {text!r}, expected every capture name once")

    def match(self, topic: str) -> dict[str, str] | None:
        """What the captures hold, or None when ``topic`` is another one. Levels of a rest are joined by dots."""
        levels = topic.split("/")
        fixed = len(self._levels) - self._open_ended
        # "#" also stands for no level at all (MQTT 3.1.1 section 4.7.1.2).
        if len(levels) != fixed and not (self._open_ended and len(levels) > fixed):
            return None
        if any(levels[at] != level for at, level in self._literal.items()):
            return None
        if topic.startswith("$") and 0 not in self._literal:
            return None
        last = len(self._levels) - 1
        return {
            name: ".".join(levels[at:]) if at == last and self._open_ended else levels[at]
            for name, at in self._captures
        }

    def _level(self, level: str, at: int, *, last: bool) -> str:
        match = _CAPTURE.fullmatch(level)
        if match is not None:
            self._captures.append((match[1], at))
            level = "#" if match[2] else "+"
        elif set(level) & set("+#{}") and level not in ("+", "#"):
            raise ValueError(
                f"got {self.text!r}: level {level!r} mixes text with a wildcard; expected whole levels such as {{area}}"
            )
        if level == "#" and not last:
            raise ValueError(f"got {self.text!r}, expected # or {{name...}} only as the last level")
        return level
