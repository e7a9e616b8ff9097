"""MQTT: readings from a broker, events to one, nudges and reports of updates. Loading this loads no client library."""

from __future__ import annotations

from edge_adapters.mqtt.options import MqttSinkOptions, MqttSourceOptions, MqttUplinkOptions
from edge_agent.contract import AdapterContext, Fleet, Sink, SinkAdapter, Source, SourceAdapter, Uplink, UplinkAdapter

__all__ = ["SINK", "SOURCE", "UPLINK"]


def _source(options: MqttSourceOptions, context: AdapterContext) -> Source:
    from edge_adapters.mqtt.source import MqttSource

    return MqttSource(options, context)


def _sink(options: MqttSinkOptions, context: AdapterContext) -> Sink:
    from edge_adapters.mqtt.sink import MqttSink

    return MqttSink(options, context)


def _uplink(options: MqttUplinkOptions, context: AdapterContext) -> Uplink:
    from edge_adapters.mqtt.uplink import MqttUplink

    return MqttUplink(options, context)


def _fleet(options: MqttUplinkOptions) -> Fleet:
    from edge_adapters.mqtt.fleet import MqttFleet

    return MqttFleet(options)


SOURCE = SourceAdapter(
    name="mqtt",
    summary="Messages of an MQTT broker (3.1.1 and 5), with presets for Zigbee2MQTT and LoRaWAN.",
    options=MqttSourceOptions,
    build=_source,
    extra="mqtt",
)
SINK = SinkAdapter(
    name="mqtt",
    summary="Events as JSON messages to an MQTT broker (3.1.1 and 5).",
    options=MqttSinkOptions,
    build=_sink,
    extra="mqtt",
)
UPLINK = UplinkAdapter(
    name="mqtt",
    summary="Updates: retained nudges of the ring and status reports, by an MQTT broker (3.1.1 and 5).",
    options=MqttUplinkOptions,
    build=_uplink,
    fleet=_fleet,
    extra="mqtt",
)
