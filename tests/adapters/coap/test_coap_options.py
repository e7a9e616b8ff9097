"""What the options refuse, and what the sample and the adapter promise."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
import yaml
from conftest import Coap, free_udp_port, libcoap_server
from pydantic import ValidationError

from edge_adapters.coap import SOURCE
from edge_agent.testing import check_source

RESOURCE = {"path": "/s/{device}"}
DTLS = {"identity": "a", "key": "b"}


def server(**options: Any) -> dict[str, Any]:
    return {"server": {"resources": [RESOURCE], **options}}


def resource(**options: Any) -> dict[str, Any]:
    return {"server": {"resources": [RESOURCE | options]}}


def client(**options: Any) -> dict[str, Any]:
    return {"client": [{"uri": "coap://host/x", **options}]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected `server` (devices send to us), `client` (we read devices), or both"),
        ({"server": {"resources": []}}, "at least 1 item"),
        (server(listen="localhost"), "got 'localhost', expected host:port such as 127.0.0.1:5683 or [::]:5683"),
        (server(listen="::1:5683"), "got '::1:5683', expected host:port"),
        (server(listen="[127.0.0.1]:1"), "got '[127.0.0.1]:1', expected host:port"),
        (server(listen="127.0.0.1:65536"), "got '127.0.0.1:65536', expected host:port"),
        (server(listen="0.0.0.0:5683", dtls=[DTLS]), "listen: DTLS needs one address"),
        (server(listen="127.0.0.1:65535", dtls=[DTLS]), "listen: DTLS needs the port after it"),
        (server(dtls=[DTLS, DTLS]), "dtls: the identity 'a' is given twice"),
        (
            {"server": {"resources": [{"path": "/{a}/x"}, {"path": "/{b}/x"}]}},
            "resources: two paths have the form /{}/x, so the second would never be reached",
        ),
        (server(allow_unprotected=True), "allow_unprotected: has no meaning without `oscore` or `dtls`"),
        (resource(path="s/x"), "got 's/x', expected a path such as /s/{device}"),
        (resource(path="/"), "got '/', expected a path such as /s/{device}"),
        (resource(path="/s//x"), "segment '' is neither plain text nor one {capture}"),
        (resource(path="/s/a{b}"), "segment 'a{b}' is neither plain text nor one {capture}"),
        (resource(path="/{a}/{a}"), "got '/{a}/{a}', which uses the same capture twice"),
        (resource(path="/{path}"), "{path} and {key} have a meaning of their own"),
        (resource(name="{site}"), "name: nothing fills {site}; this resource and its payload give {device}, {path}"),
        (resource(name="a", payload={"name": "b"}), "name: given twice, here and in `payload`; keep one"),
        (resource(max_body="0B"), "greater than or equal to 1"),
        (resource(max_body="1GB"), "less than or equal to 16777216"),
        (resource(assume="cbor"), "'payload', 'senml_json' or 'senml_cbor'"),
        (resource(payload={"format": "xml"}), "'auto', 'number', 'json', 'csv' or 'raw'"),
        (client(uri="http://host/x"), "got 'http://host/x', expected a URI such as coap://192.168.1.20/temperature"),
        (client(uri="coap:///x"), "got 'coap:///x', expected a URI"),
        (client(uri="coap://a..b/x"), "got 'coap://a..b/x', expected a URI"),
        (client(uri="coap://host:99999/x"), "got 'coap://host:99999/x', expected a URI"),
        (client(uri="coap://host/x#y"), "got 'coap://host/x#y', expected a URI"),
        (client(uri="coap://host/%ff"), "got 'coap://host/%ff', expected a URI"),
        (client(uri="coap://[::1/x"), "got 'coap://[::1/x', expected a URI"),
        (client(mode="watch"), "'observe' or 'poll'"),
        (client(interval="50ms"), "greater than or equal to 0.1"),
        (client(interval="5"), "expected a duration with its unit"),
        (client(quiet_for="100ms"), "greater than or equal to 1"),
        (client(timeout="500ms"), "greater than or equal to 1"),
        (client(oscore="/x"), "oscore: use `mode: poll`"),
        (client(uri="coaps://host/x"), "dtls: goes with a coaps:// URI, and a coaps:// URI needs it"),
        (client(dtls=DTLS), "dtls: goes with a coaps:// URI, and a coaps:// URI needs it"),
        ({"client": [{"uri": "coap://h/x"}] * 2}, "client: the URI 'coap://h/x' is given twice"),
    ],
)
def test_wrong_option_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SOURCE.options.model_validate({"type": "coap", **config})
    assert message in str(caught.value)


@pytest.mark.parametrize("uri", ["coap://[2001:db8::1]:5684/a/b", "coap://192.0.2.1/a?x=1", "coap://dev.example"])
def test_usual_uris_are_taken(uri: str) -> None:
    SOURCE.options.model_validate({"type": "coap", **client(uri=uri, name="x")})


def test_sample_is_accepted_as_it_stands_and_with_everything_in_it_switched_on() -> None:
    text = (resources.files("edge_adapters.coap") / "sample.yaml").read_text()
    for sample in (text, re.sub(r"^( *)# (?=[-a-z ])(?! *(Devices|We|`))", r"\1", text, flags=re.MULTILINE)):
        options = SOURCE.options.model_validate(yaml.safe_load(sample)["sources"]["field"])
    assert len(options.client) == 2  # type: ignore[attr-defined]
    assert len(options.server.resources) == 2  # type: ignore[attr-defined]


def test_secret_keys_do_not_show() -> None:
    options = SOURCE.options.model_validate({"type": "coap", **server(dtls=[{"identity": "a", "key": "hidden"}])})
    assert "hidden" not in repr(options) + options.model_dump_json()


@pytest.mark.counterpart
async def test_the_shared_rules_for_sources_hold(coap: Coap) -> None:
    port = free_udp_port()
    watched = {"name": "x", "mode": "poll", "interval": "100ms", "timeout": "1s"}
    async with libcoap_server(port):
        uri = f"coap://127.0.0.1:{port}/example_data"
        await coap("put", uri, payload=b"1")
        nowhere = f"coap://127.0.0.1:{free_udp_port()}/x"
        await check_source(
            SOURCE,
            {"type": "coap", "client": [watched | {"uri": uri}]},
            unreachable={"type": "coap", "client": [watched | {"uri": nowhere}]},
        )
