"""Options of the InfluxDB sink."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from edge_agent.contract import SinkOptions
from edge_agent.options import Duration, Secret
from edge_agent.tls import TlsOptions
from edge_agent.verdict import EventKind


class InfluxOptions(SinkOptions):
    """Time series by the line protocol over HTTP."""

    events: tuple[EventKind, ...] = Field(
        default=(EventKind.INCIDENT, EventKind.STATUS, EventKind.SCORES),
        description="Kinds of event to deliver to this sink.",
    )
    every: Duration | None = Field(
        default=10.0,
        gt=0,
        description="How often scores and readings are delivered, if `events` names them; those in between are not "
        "sent. `null`: at each tick.",
    )
    url: str = Field(description="Address of the server, without the path of its API.", examples=["http://db:8086"])
    bucket: str | None = Field(
        default=None,
        min_length=1,
        description="Bucket; the API of InfluxDB 2 and 3 is used. Either this or `database`.",
    )
    org: str | None = Field(default=None, min_length=1, description="Organisation of `bucket`, by name or id.")
    token: Secret | None = Field(default=None, description="API token for `bucket`.")
    database: str | None = Field(
        default=None, min_length=1, description="Database; the API of InfluxDB 1 is used. Either this or `bucket`."
    )
    retention_policy: str | None = Field(
        default=None, min_length=1, description="Retention policy in `database`. Default: the database's own."
    )
    username: str | None = Field(
        default=None, pattern=r"^[^:]+$", description="User of `database`, where it asks for one."
    )
    password: Secret | None = Field(default=None, description="Password of `username`.")
    prefix: str = Field(
        default="edge_",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="Put in front of the measurements `reading`, `score`, `plant`, `incident` and `status`.",
    )
    tags: dict[str, str] = Field(default={}, description="More tags on every point: `{site: north}`.")
    batch: int = Field(default=5_000, ge=1, le=100_000, description="Most points in one request.")
    gzip: bool = Field(default=True, description="Compress requests.")
    timeout: Duration = Field(
        default=10.0, gt=0, le=600, description="Longest time for one request, connecting included."
    )
    tls: TlsOptions = Field(default=TlsOptions(), description="TLS of an `https://` URL.")

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown in messages."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def target(self) -> str:
        """What to call the place where points go, in messages."""
        return f"{self.origin} " + (f"bucket {self.bucket!r}" if self.bucket else f"database {self.database!r}")

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise ValueError("user and password do not belong in the URL; use `username` and `password`, or `token`")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"got {url!r}, expected a URL such as http://db.example.com:8086")
        return url.rstrip("/")

    @field_validator("tags")
    @classmethod
    def _tags_are_usable(cls, tags: dict[str, str]) -> dict[str, str]:
        own = {"agent", "sensor", "unit", "kind", "severity", "state", "id", "what"} & set(tags)
        if own:
            raise ValueError(f"{', '.join(sorted(own))}: set by the sink itself")
        empty = [name for name, value in tags.items() if not name.strip() or not value.strip()]
        if empty:
            raise ValueError(f"{', '.join(map(repr, empty))}: tags and their values must not be empty")
        return tags

    @model_validator(mode="after")
    def _one_api(self) -> InfluxOptions:
        if (self.bucket is None) == (self.database is None):
            raise ValueError("expected either `bucket` (InfluxDB 2 and 3) or `database` (InfluxDB 1)")
        strangers = ("retention_policy", "username", "password") if self.bucket else ("org", "token")
        given = [name for name in strangers if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{given[0]}: has no meaning with `{'bucket' if self.bucket else 'database'}`")
        if self.password is not None and self.username is None:
            raise ValueError("password: needs `username` too")
        return self
