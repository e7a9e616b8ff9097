"""What the status of an answer means for an event (RFC 9110, 15)."""

from __future__ import annotations

from typing import Final

_OF_THE_WAY: Final = frozenset({401, 403, 404, 405, 407, 408, 421, 425, 429})


def may_pass(status: int) -> bool:
    """Whether ``status`` says nothing against the event itself, so that it may be taken later.

    Tokens are mended, paths come back after a deployment, and the redirect is often that of a captive portal.
    """
    return status // 100 in (3, 5) or status in _OF_THE_WAY
