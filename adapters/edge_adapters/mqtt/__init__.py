"""MQTT: readings from a broker, events to a broker. Loading this module does not load the client library."""

from __future__ import annotations

from edge_adapters.mqtt.options import MqttSinkOptions, MqttSourceOptions
from edge_agent.contract import AdapterContext, Sink, SinkAdapter, Source, SourceAdapter

__all__ = ["SINK", "SOURCE"]


def _source(options: MqttSourceOptions, context: AdapterContext) -> Source:
    from edge_adapters.mqtt.source import MqttSource

    return MqttSource(options, context)


def _sink(options: MqttSinkOptions, context: AdapterContext) -> Sink:
    from edge_adapters.mqtt.sink import MqttSink

    return MqttSink(options, context)


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
