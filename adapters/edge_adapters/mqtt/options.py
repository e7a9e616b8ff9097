"""Options of the MQTT source, sink and uplink. Does not load the client library."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from edge_adapters.mqtt.connection import ConnectionOptions
from edge_adapters.mqtt.presets import NO_PRESET, PRESETS, Preset, PresetSubscription
from edge_adapters.mqtt.topics import TopicPattern
from edge_agent.contract import SinkOptions, SourceOptions, UplinkOptions
from edge_agent.options import Duration, Options
from edge_agent.payload import PayloadOptions, build_decoder
from edge_agent.templates import Template, try_templates

TOPIC = "topic"
EVENT_PLACEHOLDERS = ("kind", "id", "severity")


class SubscriptionOptions(Options):
    """One subscription and what its messages mean."""

    topic: str = Field(
        default="",
        description="Topics to take. `{name}` (or `+`) captures one level, `{name...}` (or `#`) the rest, for use in "
        "sensor names. Default: that of the `preset`.",
        examples=["plant/{area}/{sensor}"],
    )
    preset: Preset | None = Field(
        default=None,
        description="Known message form: `zigbee2mqtt`, `chirpstack` (v4 uplinks) or `tts` (The Things Stack v3 "
        "uplinks). Options given beside it win.",
    )
    qos: int = Field(
        default=1,
        ge=0,
        le=2,
        description="0: may be lost; 1: not lost, may come twice; 2: exactly once. "
        "1 and 2 are acknowledged only when the agent has accepted the readings.",
    )
    name: str | None = Field(
        default=None,
        description="Sensor name; the same as `payload.name`. Default: all captures and the path in the payload, "
        "joined by dots; without captures the topic itself.",
        examples=["{area}.{sensor}"],
    )
    payload: PayloadOptions = Field(default=PayloadOptions(), description="How a message is read.")
    ignore: tuple[str, ...] = Field(
        default=(), description="Topics among them that hold no readings, as shell-style patterns: `*/status`."
    )
    retained: bool = Field(
        default=True,
        description="Take the retained message that a broker sends first: the last known value, which may be old.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> SubscriptionOptions:
        if not self.topic and self.preset is None:
            raise ValueError("topic: expected a topic such as plant/{area}/{sensor}, or a `preset`")
        if self.name is not None and self.payload.name is not None:
            raise ValueError("name: given twice, here and in `payload`; keep one")
        if self.preset is not None and "format" in self.payload.model_fields_set:
            raise ValueError(f"payload.format: the preset {self.preset} has its own; leave out one of them")
        filled = self.placeholders()
        unknown = build_decoder(self.effective_payload()).placeholders - set(filled)
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in (*filled, "path", "key"))
            raise ValueError(f"name: nothing fills {{{min(unknown)}}}; this topic and its payload give {known}")
        return self

    def pattern(self) -> TopicPattern:
        """The topic pattern, from here or from the preset."""
        return TopicPattern(self.topic or self._preset().topic)

    def effective_payload(self) -> PayloadOptions:
        """Payload options with preset and ``name`` applied."""
        given = {name: getattr(self.payload, name) for name in self.payload.model_fields_set}
        if self.name is not None:
            given["name"] = self.name
        return self._preset().payload.model_copy(update=given)

    def ignored(self) -> tuple[str, ...]:
        """Shell-style patterns of topics without readings."""
        return self.ignore + self._preset().ignore

    def placeholders(self) -> tuple[str, ...]:
        """What the topic gives to the name: its captures, or ``topic`` (with dots) when it has none."""
        return self.pattern().captures or (TOPIC,)

    def _preset(self) -> PresetSubscription:
        return NO_PRESET if self.preset is None else PRESETS[self.preset]


class MqttSourceOptions(SourceOptions, ConnectionOptions):
    """Options of the MQTT source."""

    subscriptions: tuple[SubscriptionOptions, ...] = Field(
        min_length=1, description="What to subscribe to. When several match a topic, the first one reads it."
    )
    session_expiry: Duration = Field(
        default=0.0,
        le=0xFFFFFFFE,
        description="How long the broker keeps messages (of QoS 1 and 2) for us while we are away; needs `client_id`. "
        "0: not at all. MQTT 3.1.1 knows only 0 and for as long as the broker likes.",
    )
    share: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Share the messages with other agents that name the same group ($share/GROUP/TOPIC): each message "
        "goes to one of them.",
    )
    receive_maximum: int = Field(
        default=1000, ge=1, le=65535, description="MQTT 5: most unacknowledged messages the broker may send us."
    )
    reconnect_max: Duration = Field(
        default=30.0, gt=0, le=86400, description="Longest pause between two attempts to reach a broker that is gone."
    )

    @model_validator(mode="after")
    def _session_has_an_owner(self) -> MqttSourceOptions:
        if self.session_expiry and self.client_id is None:
            raise ValueError("session_expiry: needs a `client_id`, by which the broker knows us again")
        return self


class MqttSinkOptions(SinkOptions, ConnectionOptions):
    """Options of the MQTT sink."""

    topic: str = Field(
        default="edge-agent/{kind}",
        description="Topic to publish to, with placeholders `{kind}`, `{id}` and, for incidents, `{severity}` "
        "(otherwise `none`).",
    )
    replay_topic: str | None = Field(
        default=None,
        description="Topic for events that could not be sent when they happened, with the same placeholders. "
        "Default: `topic`, where they can be told by `replayed` in the payload.",
        examples=["edge-agent/replay/{kind}"],
    )
    template: Template | None = Field(
        default=None, description="Template of the payload. Default: the event's body as JSON."
    )
    qos: int = Field(
        default=1, ge=0, le=2, description="0: may be lost; 1: arrives, perhaps twice; 2: arrives exactly once."
    )
    retain: bool = Field(default=False, description="Let the broker keep the last event of each topic for newcomers.")
    timeout: Duration = Field(
        default=10.0, gt=0, le=600, description="Longest wait for the broker to acknowledge a delivery."
    )

    @field_validator("topic", "replay_topic")
    @classmethod
    def _topic_can_be_published(cls, topic: str | None) -> str | None:
        return None if topic is None else _publishable(topic)

    @model_validator(mode="after")
    def _template_works(self) -> MqttSinkOptions:
        try_templates(self.told, {"template": self.template})
        return self


class MqttUplinkOptions(UplinkOptions, ConnectionOptions):
    """Options of the MQTT uplink."""

    prefix: str = Field(
        default="edge-agent",
        max_length=128,
        description="First levels of all topics: nudges come by `PREFIX/v1/FLEET/RING/nudge`, the status report goes "
        "to `PREFIX/v1/FLEET/GATEWAY/ota/status`.",
        examples=["site-4/edge-agent"],
    )
    session_expiry: Duration = Field(
        default=86_400.0,
        le=0xFFFFFFFE,
        description="How long the broker keeps nudges for us while we are away (it keeps the latest one for ever). "
        "MQTT 3.1.1 knows only 0 and for as long as the broker likes. Unless it is 0, the name of the client "
        "(`client_id`) is `edge-agent:FLEET:GATEWAY` by default.",
    )
    timeout: Duration = Field(
        default=30.0, gt=0, le=600, description="Longest wait for the broker to acknowledge a report."
    )

    @field_validator("prefix")
    @classmethod
    def _prefix_is_plain(cls, prefix: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", prefix) is None:
            raise ValueError(f"got {prefix!r}, expected levels of letters, digits, `_`, `.` or `-`, such as site-4/ota")
        return prefix

    def of_gateway(self, fleet: str, gateway: str) -> Self:
        """The same with the name that a kept session needs."""
        if self.client_id is not None or not self.session_expiry:
            return self
        return self.model_copy(update={"client_id": f"edge-agent:{fleet}:{gateway}"})


def _publishable(topic: str) -> str:
    unknown = set(re.findall(r"\{([^{}]*)\}", topic)) - set(EVENT_PLACEHOLDERS)
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in EVENT_PLACEHOLDERS)
        raise ValueError(f"got {topic!r}: unknown placeholder {{{min(unknown)}}}, expected {known}")
    if not topic or set(re.sub(r"\{[^{}]*\}", "", topic)) & set("+#{}\0"):
        raise ValueError(f"got {topic!r}, expected a topic without wildcards")
    return topic
