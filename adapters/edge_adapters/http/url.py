"""Checks of URLs and headers in options. Does not load the HTTP library."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from edge_agent.options import Secret

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2


def origin(url: str) -> str:
    """Scheme, host and port of ``url``: what may be shown, because paths and queries often carry tokens."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def check_url(url: str, example: str, instead: str) -> str:
    """``url`` when it is an HTTP URL without credentials; ``instead`` says where those belong. :raises ValueError:"""
    parts = urlsplit(url)
    try:
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment and parts.port != 0
    except ValueError:  # the port is no number
        good = False
    if not good:
        raise ValueError(f"got {origin(url)!r}, expected a URL such as {example}")
    if parts.username or parts.password:
        raise ValueError(f"user and password do not belong in the URL; use {instead}")
    return url


def check_headers(headers: Mapping[str, Secret], own: Collection[str]) -> None:
    """Names and values that can be sent, and that the sink does not set itself (``own``). :raises ValueError:"""
    for name, value in headers.items():
        if _HEADER_NAME.fullmatch(name) is None:
            raise ValueError(f"got header name {name!r}, expected letters, digits and hyphens")
        if name.lower() in own or name.lower().startswith("x-edge-agent-"):
            raise ValueError(f"{name}: this header is set by the sink itself")
        if not value.reveal().isprintable():
            raise ValueError(f"{name}: the value has line breaks or other unprintable characters")
