"""Sends notifications by Apprise, as a process of its own: reads a line of JSON, writes one for each message.

Why not in the agent: Apprise loads every service it knows (27 MB), keeps threads, and blocks as long as a server likes.
A process gives the memory back, leaves nothing behind, and can be ended. It imports nothing of the agent.

in:   ``{"url": "...", "format": "text", "messages": [{"title": "...", "body": "...", "type": "warning"}]}``
out:  ``{"ready": true}``, or ``{"unusable": "why"}``, then for each message ``{"sent": true}`` or
      ``{"sent": false, "said": "why"}``, after which it goes on when an empty line comes in: whether the next message
      may overtake this one is not decided here
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

_LONGEST_REASON = 300
_SHORTEST_SECRET = 4
_HOST = re.compile(r"localhost|[a-z0-9-]{1,30}(\.[a-z0-9-]{1,30})+")


class Said(logging.Handler):
    """What the library says while it sends, without anything of the URL but its host."""

    def __init__(self, url: str) -> None:
        super().__init__(logging.DEBUG)
        self._lines: list[str] = []
        service, _, rest = url.partition("://")
        place = rest.split("?")[0].split("/")[0].rpartition("@")[2].lower()
        host = place.partition(":")[0]
        # Many services have a token where others have the host.
        public = {service.lower(), host if _HOST.fullmatch(host) else ""}
        parts = {part for part in re.split(r"[/:@?&=,;+\s]+", rest) if len(part) >= _SHORTEST_SECRET}
        self._secrets = sorted((part for part in parts if part.lower() not in public), key=len, reverse=True)

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        # Below warnings the library shows payloads, and the reason why a connection failed: only that is wanted.
        if record.levelno >= logging.WARNING or line.startswith("Socket Exception"):
            self._lines.append(line)

    def take(self) -> str:
        """What was said since the last call."""
        text = " ".join(" ".join(self._lines).split())
        self._lines.clear()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:_LONGEST_REASON]


def main() -> None:
    """Do what the document on standard input says."""
    order = json.loads(sys.stdin.readline())
    said = Said(order["url"])
    logger = logging.getLogger("apprise")
    logger.addHandler(said)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False

    import apprise

    # Redirects would take the secrets of the URL elsewhere.
    asset = apprise.AppriseAsset(app_id="edge-agent", app_desc="edge-agent", async_mode=False, http_redirects=False)
    service = apprise.Apprise(asset=asset)
    if not service.add(order["url"]):
        answer({"unusable": said.take() or "Apprise does not understand the URL"})
        return
    if order["url"].lower().startswith(("mailto:", "mailtos:")):
        # Apprise is polite to public services and waits 5.5 s between two requests; a mail server needs none of that.
        service[0].request_rate_per_sec = 0
    answer({"ready": True})
    for message in order["messages"]:
        said.take()
        sent = service.notify(
            title=message["title"], body=message["body"], notify_type=message["type"], body_format=order["format"]
        )
        answer({"sent": True} if sent else {"sent": False, "said": said.take()})
        if not sent and not sys.stdin.readline():
            return


def answer(document: dict[str, Any]) -> None:
    """One line for whoever waits."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
