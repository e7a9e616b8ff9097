"""Path patterns such as ``/{site}/{sensor}``: which resource a request is for, and what its path says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_CAPTURE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class PathPattern:
    """A path whose segments are literal or one ``{capture}`` each; a capture matches one non-empty segment."""

    def __init__(self, text: str) -> None:
        """:raises ValueError: saying what is wrong with ``text``."""
        if not text.startswith("/") or text == "/":
            raise ValueError(f"got {text!r}, expected a path such as /s/{{device}}")
        self.text = text
        self._segments = [_segment(part, text) for part in text[1:].split("/")]
        self.captures = tuple(name for name, _ in self._segments if name is not None)
        self.shape = "".join(f"/{literal}" if name is None else "/{}" for name, literal in self._segments)
        if len(set(self.captures)) != len(self.captures):
            raise ValueError(f"got {text!r}, which uses the same capture twice")

    def match(self, path: Sequence[str]) -> dict[str, str] | None:
        """The captures when ``path`` (decoded segments) fits, else None."""
        if len(path) != len(self._segments):
            return None
        captures: dict[str, str] = {}
        for part, (capture, literal) in zip(path, self._segments, strict=True):
            if capture is None:
                if part != literal:
                    return None
            elif part:
                captures[capture] = part
            else:
                return None
        return captures


def _segment(part: str, text: str) -> tuple[str | None, str]:
    match = _CAPTURE.fullmatch(part)
    if match is not None:
        return match[1], ""
    if not part or "{" in part or "}" in part:
        raise ValueError(f"got {text!r}: segment {part!r} is neither plain text nor one {{capture}}")
    return None, part
