"""Ready-made subscriptions for gateways whose messages have a known form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.payload import PayloadFormat, PayloadOptions


class Preset(StrEnum):
    """Who publishes."""

    ZIGBEE2MQTT = "zigbee2mqtt"
    CHIRPSTACK = "chirpstack"
    TTS = "tts"


@dataclass(frozen=True, slots=True)
class PresetSubscription:
    """What a preset stands for. ``ignore``: shell-style patterns of topics below ``topic`` that hold no readings."""

    topic: str
    payload: PayloadOptions
    ignore: tuple[str, ...] = ()


NO_PRESET = PresetSubscription(topic="", payload=PayloadOptions())

_ZIGBEE2MQTT = PresetSubscription(
    topic="zigbee2mqtt/{device...}",
    payload=PayloadOptions(
        format=PayloadFormat.JSON,
        name="{device}.{path}",
        time="$.last_seen",
        values={"ON": 1, "OFF": 0, "OPEN": 1, "CLOSE": 0, "CLOSED": 0, "LOCK": 1, "UNLOCK": 0},
    ),
    # Its own state, commands to devices, and whether a device is reachable.
    ignore=("zigbee2mqtt/bridge", "zigbee2mqtt/bridge/*", "*/availability", "*/set", "*/set/*", "*/get", "*/get/*"),
)

# https://www.chirpstack.io/docs/chirpstack/integrations/events.html (v4, JSON encoding)
_CHIRPSTACK = PresetSubscription(
    topic="application/{application}/device/{dev_eui}/event/up",
    payload=PayloadOptions(
        format=PayloadFormat.JSON,
        name="{device}.{path}",
        value="$.object",
        # Several gateways may have heard it: the best reception is what the device can rely on.
        fields={"rssi": "$.rxInfo[*].rssi.max()", "snr": "$.rxInfo[*].snr.max()"},
        labels={"device": "$.deviceInfo.deviceName"},
        time="$.time",
    ),
)

# https://www.thethingsindustries.com/docs/the-things-stack/concepts/data-formats/ (v3)
_TTS = PresetSubscription(
    topic="v3/{application}/devices/{device}/up",
    payload=PayloadOptions(
        format=PayloadFormat.JSON,
        name="{device}.{path}",
        value="$.uplink_message.decoded_payload",
        fields={
            "rssi": "$.uplink_message.rx_metadata[*].rssi.max()",
            "snr": "$.uplink_message.rx_metadata[*].snr.max()",
        },
        labels={"dev_eui": "$.end_device_ids.dev_eui"},
        time="$.uplink_message.received_at",
    ),
)

PRESETS = {Preset.ZIGBEE2MQTT: _ZIGBEE2MQTT, Preset.CHIRPSTACK: _CHIRPSTACK, Preset.TTS: _TTS}
