"""What a server says, without the secrets that it was sent: error pages like to repeat paths and headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

_SHORTEST: Final = 6
"""Characters; shorter words would be found everywhere."""
_WORDS: Final = re.compile(r"[\s/?&=;,+]+")
_PUBLIC_HEADERS: Final = frozenset({"content-type", "accept"})
_PUBLIC: Final = frozenset({"bearer", "basic", "token"})


class Mask:
    """Takes path and query of ``url`` and the values of ``headers`` out of texts, as a whole and word by word."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        texts = [part for text in (parts.path, parts.query) for part in (text, unquote(text))]
        texts += [value for name, value in headers.items() if name.lower() not in _PUBLIC_HEADERS]
        words = {word for text in texts for word in (text, *_WORDS.split(text))}
        secrets = [word for word in words if len(word) >= _SHORTEST and word.lower() not in _PUBLIC]
        longest_first = sorted(secrets, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, longest_first))) if secrets else None

    def __call__(self, text: str) -> str:
        return text if self._secret is None else self._secret.sub("***", text)
