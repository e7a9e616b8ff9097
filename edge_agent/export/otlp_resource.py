"""Who speaks, in the SDK's terms."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

SCOPE = InstrumentationScope("edge_agent")


def resource(agent_name: str, version: str, extra: Mapping[str, str]) -> Resource:
    """The gateway by the semantic conventions; ``extra`` wins. Nothing is taken from the environment."""
    attributes = {
        "service.name": "edge-agent",
        "service.version": version,
        "service.instance.id": agent_name,
        "host.name": socket.gethostname(),
        **extra,
    }
    return Resource({name: utf8(value) for name, value in attributes.items()})


def utf8(text: str) -> str:
    """Protobuf refuses lone surrogates, which file names and hostile payloads can bring into a text."""
    return text.encode("utf-8", "replace").decode()
