"""Options of the Alertmanager sink."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from pydantic import Field, field_validator, model_validator

from edge_adapters.http.url import check_url
from edge_agent.contract import SinkOptions
from edge_agent.options import Duration, Secret
from edge_agent.templates import Template, try_templates
from edge_agent.tls import TlsOptions
from edge_agent.verdict import EventKind, Severity

OWN_LABELS: Final = frozenset({"alertname", "severity", "gateway", "area", "kind", "incident", "what"})
OWN_ANNOTATIONS: Final = frozenset({"summary", "description", "link"})
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")  # https://prometheus.io/docs/concepts/data_model/
_EXAMPLE: Final = "http://alertmanager:9093"


class Require(StrEnum):
    """How many of several Alertmanagers have to take an alert before it counts as delivered."""

    ONE = "one"
    ALL = "all"


class AlertmanagerOptions(SinkOptions):
    """Incidents as alerts."""

    urls: tuple[str, ...] = Field(
        min_length=1,
        max_length=16,
        description="Alertmanagers, without `/api/v2`. Every alert goes to all of them, as a cluster expects.",
        examples=[["http://alertmanager:9093"]],
    )
    require: Require = Field(
        default=Require.ONE,
        description="An alert counts as delivered when `one` or `all` of `urls` have taken it. One that missed it "
        "gets it with the next `repeat`.",
    )
    events: tuple[EventKind, ...] = Field(
        default=(EventKind.INCIDENT,), description="Kinds of event to deliver: `incident`, `status` or both."
    )
    repeat: Duration = Field(
        default=60.0,
        gt=0,
        description="How often open incidents are sent again. Must be shorter than Alertmanager's `resolve_timeout` "
        "(5m unless configured), after which it takes an alert it no longer hears of for resolved.",
    )
    alert_name: str = Field(default="EdgeAgentIncident", min_length=1, description="Label `alertname` of incidents.")
    labels: dict[str, str] = Field(
        default={}, description="More labels for every alert, to route by: `{site: vienna, team: plant}`."
    )
    severities: dict[Severity, str] = Field(
        default={},
        description="What the label `severity` says instead of our words: `{low: info, medium: warning, high: page}`.",
    )
    summary: Template | None = Field(
        default=None, description="Template of the annotation `summary`. Default: severity, gateway and what happened."
    )
    description: Template | None = Field(
        default=None, description="Template of the annotation `description`. Default: the whole incident in words."
    )
    link: Template | None = Field(
        default=None,
        description="Template of a link to a dashboard, as annotation `link` and as the alert's source: "
        "`https://grafana.example.com/d/plant?var-gateway={{ agent | urlencode }}`.",
    )
    annotations: dict[str, Template] = Field(
        default={},
        description="More annotations, each a template: `{runbook_url: https://wiki.example.com/{{ kind }}}`.",
    )
    username: str | None = Field(default=None, description="User for HTTP basic authentication.")
    password: Secret | None = Field(default=None, description="Password of `username`.")
    bearer_token: Secret | None = Field(default=None, description="Token for `Authorization: Bearer …`.")
    timeout: Duration = Field(default=10.0, gt=0, description="Longest time for one request, connecting included.")
    tls: TlsOptions = Field(default=TlsOptions(), description="TLS of `https://` URLs.")

    @field_validator("urls")
    @classmethod
    def _urls_are_http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            check_url(url, _EXAMPLE, "`username` and `password`")
            if "/api/" in url or "?" in url:
                raise ValueError(f"leave out what follows the address of Alertmanager, as in {_EXAMPLE}")
        bare = tuple(url.rstrip("/") for url in urls)
        if len(set(bare)) != len(bare):
            raise ValueError("the same Alertmanager is named twice")
        return bare

    @field_validator("events")
    @classmethod
    def _events_are_alerts(cls, events: tuple[EventKind, ...]) -> tuple[EventKind, ...]:
        for kind in events:
            if kind not in (EventKind.INCIDENT, EventKind.STATUS):
                raise ValueError(f"got {kind.value}, expected incident or status: nothing else makes an alert")
        return events

    @field_validator("labels")
    @classmethod
    def _labels_are_usable(cls, labels: dict[str, str]) -> dict[str, str]:
        for name, value in labels.items():
            _check_name(name, OWN_LABELS)
            if not value:
                raise ValueError(f"{name}: is empty; leave the label out")
        return labels

    @field_validator("annotations")
    @classmethod
    def _annotations_are_usable(cls, annotations: dict[str, Template]) -> dict[str, Template]:
        for name in annotations:
            _check_name(name, OWN_ANNOTATIONS)
        return annotations

    @model_validator(mode="after")
    def _fits_together(self) -> AlertmanagerOptions:
        if (self.username is None) != (self.password is None):
            raise ValueError("username, password: expected both or neither")
        if self.username is not None and self.bearer_token is not None:
            raise ValueError("bearer_token: expected either this or `username` and `password`")
        if self.digest is not None:
            raise ValueError("digest: an Alertmanager holds what is open now, a summary of the past is no alert")
        try_templates(self.events, {"summary": self.summary, "description": self.description})
        try_templates(self.events, {"link": self.link}, accept_link)
        try_templates(self.events, {f"annotations.{name}": value for name, value in self.annotations.items()})
        return self


def accept_link(text: str) -> str:
    """A link that Alertmanager takes. :raises ValueError: it is none."""
    link = text.strip()
    if not link.startswith(("http://", "https://")) or any(character.isspace() for character in link):
        raise ValueError(f"makes {link[:80]!r}, expected a link that begins with http:// or https://")
    return link


def _check_name(name: str, own: frozenset[str]) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"got the name {name!r}, expected letters, digits and underscores")
    if name in own:
        raise ValueError(f"{name}: is set by the sink itself")
