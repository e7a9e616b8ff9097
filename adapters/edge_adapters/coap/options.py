"""Options of the CoAP source."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from edge_adapters.coap.paths import PathPattern
from edge_agent.contract import SourceOptions
from edge_agent.options import ByteSize, Duration, Options, Secret
from edge_agent.payload import PayloadOptions, build_decoder


class Assume(StrEnum):
    """What a body without Content-Format is."""

    PAYLOAD = "payload"
    SENML_JSON = "senml_json"
    SENML_CBOR = "senml_cbor"


class ResourceOptions(Options):
    """What every resource has, ours or a device's. SenML (Content-Format 110, 112) needs none of these options."""

    name: str | None = Field(
        default=None,
        description="Sensor name, with placeholders, the same as `payload.name`; `{path}` is the SenML name of a "
        "record or the path of a value in JSON. Default: the other placeholders and the path, joined by dots.",
        examples=["{device}.{path}"],
    )
    payload: PayloadOptions = Field(default=PayloadOptions(), description="How a body is read that is not SenML.")
    assume: Assume = Field(
        default=Assume.PAYLOAD,
        description="A body without Content-Format is: `payload` (written as `payload.format` says), `senml_json` or "
        "`senml_cbor`.",
    )
    max_body: ByteSize = Field(
        default=65_536, ge=1, le=16_777_216, description="Longest body; a longer one is refused (4.13 as a server)."
    )

    def effective_payload(self) -> PayloadOptions:
        """Payload options with ``name`` applied."""
        return self.payload if self.name is None else self.payload.model_copy(update={"name": self.name})

    def check_name(self, captures: Iterable[str]) -> None:
        """:raises ValueError: the name has placeholders that neither ``captures`` nor the payload fill."""
        if self.name is not None and self.payload.name is not None:
            raise ValueError("name: given twice, here and in `payload`; keep one")
        missing = build_decoder(self.effective_payload()).placeholders - set(captures)
        if missing:
            known = ", ".join(f"{{{name}}}" for name in (*captures, "path", "key"))
            raise ValueError(f"name: nothing fills {{{min(missing)}}}; this resource and its payload give {known}")


class ServerResource(ResourceOptions):
    """One path that devices POST or PUT to."""

    path: str = Field(
        description="Path with captures, each one whole segment, such as `/s/{device}` or `/{site}/{sensor}`. "
        "The first resource that fits is taken.",
        examples=["/s/{device}"],
    )

    @field_validator("path")
    @classmethod
    def _path_is_a_pattern(cls, path: str) -> str:
        if {"path", "key"} & set(PathPattern(path).captures):
            raise ValueError(f"got {path!r}: {{path}} and {{key}} have a meaning of their own, choose another name")
        return path

    @model_validator(mode="after")
    def _names_are_filled(self) -> ServerResource:
        self.check_name(PathPattern(self.path).captures)
        return self


class PreSharedKey(Options):
    """A DTLS pre-shared key."""

    identity: str = Field(description="Identity that goes with the key.")
    key: Secret = Field(description="The key, as text; give a reference such as `${file:/etc/edge-agent/psk}`.")


class ServerOptions(Options):
    """Devices send to us."""

    listen: str = Field(
        default="127.0.0.1:5683",
        description="Address to listen on, `host:port`; `[::]:5683` is every address, IPv4 and IPv6. "
        "Without `oscore` or `dtls`, whoever reaches this address can send readings.",
    )
    resources: tuple[ServerResource, ...] = Field(min_length=1, description="What devices may send to.")
    oscore: tuple[Path, ...] = Field(
        default=(),
        description="OSCORE contexts (RFC 8613), one folder a device (see the README). "
        "When there is one, requests without OSCORE are refused (4.01).",
    )
    allow_unprotected: bool = Field(
        default=False, description="Beside `oscore` or `dtls`, take requests without protection too."
    )
    dtls: tuple[PreSharedKey, ...] = Field(
        default=(),
        description="DTLS keys; DTLS then listens on the port after `listen`. Needs the package DTLSSocket.",
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, listen: str) -> str:
        split_address(listen)
        return listen

    @model_validator(mode="after")
    def _fits_together(self) -> ServerOptions:
        host, port = split_address(self.listen)
        if self.dtls and port == 65535:
            raise ValueError("listen: DTLS needs the port after it, and there is none after 65535")
        if (twice := _repeated(key.identity for key in self.dtls)) is not None:
            raise ValueError(f"dtls: the identity {twice!r} is given twice")
        if (twice := _repeated(PathPattern(resource.path).shape for resource in self.resources)) is not None:
            raise ValueError(f"resources: two paths have the form {twice}, so the second would never be reached")
        if self.dtls and host in ("0.0.0.0", "::"):  # noqa: S104
            raise ValueError("listen: DTLS needs one address, such as 192.168.1.10:5683; it cannot listen on every one")
        if self.allow_unprotected and not (self.oscore or self.dtls):
            raise ValueError("allow_unprotected: has no meaning without `oscore` or `dtls`")
        return self


class ClientMode(StrEnum):
    """How a resource is followed."""

    OBSERVE = "observe"
    POLL = "poll"


class ClientResource(ResourceOptions):
    """One resource that we read."""

    uri: str = Field(
        description="What to read, such as `coap://192.168.1.20/temperature`; `coaps://` for DTLS.",
        examples=["coap://192.168.1.20/temperature"],
    )
    mode: ClientMode = Field(
        default=ClientMode.OBSERVE,
        description="`observe` (RFC 7641: the device notifies; one that cannot is polled) or `poll`.",
    )
    interval: Duration = Field(
        default=60.0,
        ge=0.1,
        description="Time between two polls. Also between two attempts when the device does not allow observing.",
    )
    quiet_for: Duration | None = Field(
        default=None,
        ge=1.0,
        description="Observation: ask again when nothing has come for this long. Default: when the last "
        "representation has expired (Max-Age, 60 s unless the device says otherwise) and 5 to 15 s more.",
    )
    timeout: Duration = Field(default=20.0, ge=1.0, description="Longest wait for an answer, repetitions included.")
    oscore: Path | None = Field(
        default=None, description="OSCORE context (RFC 8613) for this device, a folder. Only with `mode: poll`."
    )
    dtls: PreSharedKey | None = Field(default=None, description="DTLS key for a `coaps://` device.")

    @field_validator("uri")
    @classmethod
    def _uri_is_coap(cls, uri: str) -> str:
        if not _is_coap_uri(uri):
            raise ValueError(f"got {uri!r}, expected a URI such as coap://192.168.1.20/temperature")
        return uri

    @model_validator(mode="after")
    def _fits_together(self) -> ClientResource:
        if self.oscore is not None and self.mode is ClientMode.OBSERVE:
            raise ValueError("oscore: use `mode: poll`; a protected observation cannot be ended by the CoAP library")
        if (self.dtls is not None) != self.uri.startswith("coaps:"):
            raise ValueError("dtls: goes with a coaps:// URI, and a coaps:// URI needs it")
        self.check_name(client_captures(self))
        return self


class CoapOptions(SourceOptions):
    """A CoAP endpoint: a server that devices send to, a client that observes or polls them, or both."""

    server: ServerOptions | None = Field(default=None, description="Let devices POST or PUT to us.")
    client: tuple[ClientResource, ...] = Field(default=(), description="Resources to observe or poll.")

    @model_validator(mode="after")
    def _has_a_direction(self) -> CoapOptions:
        if self.server is None and not self.client:
            raise ValueError("expected `server` (devices send to us), `client` (we read devices), or both")
        if (twice := _repeated(resource.uri for resource in self.client)) is not None:
            raise ValueError(f"client: the URI {twice!r} is given twice")
        return self


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``. :raises ValueError: saying what was expected."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) <= 65535) or (":" in host) != host.startswith("["):
        raise ValueError(f"got {text!r}, expected host:port such as 127.0.0.1:5683 or [::]:5683")
    return host.strip("[]"), int(port)


def client_captures(resource: ClientResource) -> dict[str, str]:
    """Placeholders for the names of a client resource: ``{host}`` and ``{resource}``, its path joined by dots."""
    parts = urlsplit(resource.uri)
    return {"host": parts.hostname or "", "resource": ".".join(part for part in parts.path.split("/") if part)}


def _is_coap_uri(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        host = (parts.hostname or "").encode("idna")
        unquote(parts.path, errors="strict")
        usable = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return usable and bool(host) and parts.scheme in ("coap", "coaps") and not (parts.fragment or parts.username)


def _repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
