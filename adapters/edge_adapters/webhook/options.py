"""Options of the webhook sink."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import orjson
from pydantic import Field, field_validator, model_validator

from edge_adapters.http.url import check_headers, check_url
from edge_agent.contract import SinkOptions
from edge_agent.options import Duration, Secret
from edge_agent.templates import Template, try_templates
from edge_agent.tls import TlsOptions

_OWN_HEADERS: Final = frozenset({"content-type", "content-length", "host", "idempotency-key"})
_CONTENT_TYPE: Final = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; *[a-z0-9-]+=[A-Za-z0-9_.-]+)*")


class PostBody(StrEnum):
    """What one request carries."""

    EVENT = "event"
    ARRAY = "array"


class Method(StrEnum):
    """HTTP method."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"


class WebhookOptions(SinkOptions):
    """Events by HTTP."""

    url: str = Field(
        description="Where to send to, `https://…` or `http://…`. Logs and messages show only its host.",
        examples=["https://hooks.example.com/edge"],
    )
    method: Method = Field(default=Method.POST, description="HTTP method.")
    headers: dict[str, Secret] = Field(
        default={},
        description="More headers; values are secrets: `{Authorization: Bearer ${file:/etc/edge-agent/token}}`.",
    )
    body: PostBody = Field(
        default=PostBody.EVENT,
        description="One request for each `event`, or an `array` of all that wait (one that is refused is split).",
    )
    template: Template | None = Field(
        default=None,
        description="Template of the body, for receivers that want another one. Default: the event as JSON.",
    )
    content_type: str = Field(
        default="application/json",
        description="Header `Content-Type` of what `template` makes. When it is JSON, so must be the text.",
        examples=["text/plain"],
    )
    accept_status: tuple[int, ...] = Field(
        default=(), description="Status codes that mean delivered, such as `[200, 202]`; none given: 200 to 299."
    )
    timeout: Duration = Field(default=10.0, gt=0, description="Longest time for one request, connecting included.")
    signing_key: Secret | None = Field(
        default=None,
        description="Sign each request with HMAC-SHA256 and this key (see the README for how to verify).",
    )
    tls: TlsOptions = Field(default=TlsOptions(), description="TLS of an `https://` URL.")

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str) -> str:
        return check_url(url, "https://hooks.example.com/edge", "`headers: {Authorization: …}`")

    @field_validator("headers")
    @classmethod
    def _headers_are_usable(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        check_headers(headers, _OWN_HEADERS)
        return headers

    @field_validator("content_type")
    @classmethod
    def _content_type_is_one(cls, content_type: str) -> str:
        if _CONTENT_TYPE.fullmatch(content_type) is None:
            raise ValueError(f"got {content_type!r}, expected a type such as application/json or text/plain")
        return content_type

    @field_validator("accept_status")
    @classmethod
    def _statuses_are_answers(cls, statuses: tuple[int, ...]) -> tuple[int, ...]:
        for status in statuses:
            if not 200 <= status <= 499:
                raise ValueError(f"got {status}, expected status codes from 200 to 499")
        return statuses

    @model_validator(mode="after")
    def _template_works(self) -> WebhookOptions:
        if self.template is None:
            if "content_type" in self.model_fields_set:
                raise ValueError("content_type: has no meaning without `template`")
            return self
        if self.body is PostBody.ARRAY:
            raise ValueError(
                "template: makes the body of one event, `body: array` sends several; leave out one of them"
            )
        try_templates(self.told, {"template": self.template}, self.accept_text)
        return self

    def accept_text(self, text: str) -> str:
        """``text`` when it is of the content type. :raises ValueError: it is no JSON where JSON is promised."""
        if self.content_type.partition(";")[0].endswith("json"):
            try:
                orjson.loads(text)
            except ValueError as error:
                raise ValueError(f"makes no JSON: {error}; `{{{{ … | tojson }}}}` quotes values") from error
        return text
