"""Options of the webhook sink."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from edge_agent.contract import SinkOptions
from edge_agent.options import Duration, Options, Secret

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_OWN_HEADERS: Final = frozenset({"content-type", "content-length", "host", "idempotency-key"})


class PostBody(StrEnum):
    """What one POST carries."""

    EVENT = "event"
    ARRAY = "array"


class WebhookTls(Options):
    """TLS of an `https://` URL. The certificate of the server is always verified; there is no way to turn that off."""

    ca_file: Path | None = Field(
        default=None,
        description="Certificates to trust (PEM) instead of the system's; for a self-signed server its own.",
    )
    cert_file: Path | None = Field(default=None, description="Client certificate (PEM), for servers that ask for one.")
    key_file: Path | None = Field(
        default=None, description="Private key of `cert_file` (PEM), when it is not in the same file."
    )
    server_name: str | None = Field(
        default=None, description="Name expected in the server's certificate. Default: the host of `url`."
    )

    @model_validator(mode="after")
    def _key_needs_cert(self) -> WebhookTls:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file: has no meaning without `cert_file`")
        return self


class WebhookOptions(SinkOptions):
    """Events by HTTP POST."""

    url: str = Field(
        description="Where to POST, `https://…` or `http://…`. Logs and messages show only its host.",
        examples=["https://hooks.example.com/edge"],
    )
    headers: dict[str, Secret] = Field(
        default={},
        description="More headers; values are secrets: `{Authorization: Bearer ${file:/etc/edge-agent/token}}`.",
    )
    body: PostBody = Field(
        default=PostBody.EVENT,
        description="One POST for each `event`, or an `array` of all events that wait (one that is refused is split).",
    )
    timeout: Duration = Field(default=10.0, gt=0, description="Longest time for one POST, connecting included.")
    signing_key: Secret | None = Field(
        default=None,
        description="Sign each POST with HMAC-SHA256 and this key (see the README for how to verify).",
    )
    tls: WebhookTls = Field(default=WebhookTls(), description="TLS of an `https://` URL.")

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
            raise ValueError(f"got {origin(url)!r}, expected a URL such as https://hooks.example.com/edge")
        if parts.username or parts.password:
            raise ValueError("user and password do not belong in the URL; use `headers: {Authorization: …}`")
        return url

    @field_validator("headers")
    @classmethod
    def _headers_are_usable(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name, value in headers.items():
            if _HEADER_NAME.fullmatch(name) is None:
                raise ValueError(f"got header name {name!r}, expected letters, digits and hyphens")
            if name.lower() in _OWN_HEADERS or name.lower().startswith("x-edge-agent-"):
                raise ValueError(f"{name}: this header is set by the sink itself")
            if not value.reveal().isprintable():
                raise ValueError(f"{name}: the value has line breaks or other unprintable characters")
        return headers


def origin(url: str) -> str:
    """Scheme, host and port of ``url``: what may be shown, because paths and queries often carry tokens."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
