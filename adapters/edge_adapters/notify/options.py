"""Options of the notify sink."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from edge_agent.contract import SinkOptions
from edge_agent.options import Duration, Secret
from edge_agent.templates import Template, try_templates

_SERVICE: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9]{1,30})://\S+")
_FALSE: Final = frozenset({"no", "false", "0", "off", "never", "none", "n", "f"})
_ON_THIS_MACHINE: Final = frozenset({"dbus", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})


class Format(StrEnum):
    """What the body is written in; services that cannot show it get it converted."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


class NotifyOptions(SinkOptions):
    """Notifications for people, one service a sink."""

    url: Secret = Field(
        description="The service and what it needs, as an Apprise URL: `mailtos://user:password@mail.example.com?"
        "to=plant@example.com`, `slack://…`, `ntfys://ntfy.example.com/plant`. A secret: logs show only the name of "
        "the service.",
        examples=["${file:/etc/edge-agent/notify-url}"],
    )
    title: Template | None = Field(
        default=None, description="Template of the title (subject). Default: severity, gateway and what happened."
    )
    body: Template | None = Field(
        default=None, description="Template of the text. Default: the whole incident in words."
    )
    format: Format = Field(
        default=Format.TEXT,
        description="What `body` is written in: `text`, `markdown` or `html` (in which values need `| escape`).",
    )
    timeout: Duration = Field(
        default=30.0, ge=1, le=600, description="Longest time for one notification; then it counts as failed."
    )

    @field_validator("url")
    @classmethod
    def _url_names_a_service(cls, url: Secret) -> Secret:
        match = _SERVICE.fullmatch(url.reveal().strip())
        if match is None:
            raise ValueError("expected one URL that begins with the service, such as mailtos://… or slack://…")
        if match[1].lower() in _ON_THIS_MACHINE:
            raise ValueError(f"{match[1]}:// shows on the screen of this machine; expected a service elsewhere")
        verify = parse_qs(urlsplit(url.reveal()).query).get("verify", ["yes"])
        if any(value.strip().lower() in _FALSE for value in verify):
            raise ValueError("verify=no would trust any server; leave it out")
        return Secret(url.reveal().strip())

    @model_validator(mode="after")
    def _templates_work(self) -> NotifyOptions:
        if self.format is not Format.TEXT and self.body is None:
            raise ValueError(f"format: the built-in body is text; {self.format} needs a template `body`")
        try_templates(self.told, {"title": self.title, "body": self.body})
        return self

    @property
    def service(self) -> str:
        """The part of the URL that may be shown."""
        return self.url.reveal().partition("://")[0].lower()
