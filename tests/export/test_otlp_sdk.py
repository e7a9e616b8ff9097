"""What the OpenTelemetry SDK and requests must not do behind our back: log, retry, look into other people's files."""

import asyncio
import ipaddress
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from otlp_receiver import Receiver, wait_until

from edge_agent.export.options import TelemetryOptions
from edge_agent.export.otlp import OtlpExporter
from edge_agent.export.otlp_collector import Collector
from edge_agent.export.otlp_resource import resource
from edge_agent.export.otlp_session import CollectorError
from edge_agent.export.trace import Stage, TickTrace
from edge_agent.metrics import Metrics


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path / "collector.pem"
    path.write_bytes(
        made.public_bytes(encoding) + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


@pytest.fixture
def tls_receiver(certificate: Path) -> Iterator[Receiver]:
    server = Receiver(certificate=certificate)
    yield server
    server.close()


def exporter(endpoint: str, metrics: Metrics | None = None, **more: object) -> OtlpExporter:
    given = {"endpoint": endpoint, "interval": "100ms", "timeout": "5s", **more}
    return OtlpExporter(TelemetryOptions.model_validate(given), metrics or Metrics(), "gateway-7", "1.2.3")


async def send_once(export: OtlpExporter) -> None:
    export.start()
    await export.stop(deadline_s=10)


async def test_collector_whose_certificate_is_in_ca_file_is_trusted(tls_receiver: Receiver, certificate: Path) -> None:
    await send_once(exporter(tls_receiver.endpoint, signals=["metrics"], ca_file=str(certificate)))
    assert tls_receiver.requests["/v1/metrics"]


async def test_ca_file_wins_over_the_environment(
    tls_receiver: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    await send_once(exporter(tls_receiver.endpoint, signals=["metrics"], ca_file=str(certificate)))
    assert tls_receiver.requests["/v1/metrics"]


async def test_certificates_of_the_system_are_trusted(
    tls_receiver: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # where OpenSSL looks for those of the system
    await send_once(exporter(tls_receiver.endpoint, signals=["metrics"]))
    assert tls_receiver.requests["/v1/metrics"]


async def test_untrusted_collector_gets_nothing_and_the_log_says_why(
    tls_receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    await send_once(exporter(tls_receiver.endpoint, signals=["metrics"], headers={"Authorization": "Bearer hidden"}))
    assert not tls_receiver.requests["/v1/metrics"]
    assert f"OTLP export fails: {tls_receiver.endpoint}/v1/metrics: [SSL: CERTIFICATE_VERIFY_FAILED]" in caplog.text
    assert "hidden" not in caplog.text


async def test_password_of_netrc_does_not_replace_the_header(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    await send_once(exporter(receiver.endpoint, signals=["metrics"], headers={"Authorization": "Bearer ours"}))
    assert receiver.headers[0]["Authorization"] == "Bearer ours"


async def test_refused_export_is_not_retried_before_the_next_interval(receiver: Receiver) -> None:
    receiver.status = 503
    metrics = Metrics()
    await send_once(exporter(receiver.endpoint, metrics, signals=["metrics"], interval="1h"))
    assert receiver.refused == 1
    assert metrics.otlp_dropped.labels("metrics").value == 1


class RootHandler(logging.Handler):
    """What the program's own log gets. (caplog also listens to loggers that do not propagate.)"""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(record.name)


async def test_sdk_logs_nothing_however_often_it_fails(receiver: Receiver) -> None:
    receiver.status = 503
    export, seen = exporter(receiver.endpoint, signals=["metrics"]), RootHandler()
    logging.getLogger().addHandler(seen)
    try:
        export.start()
        await asyncio.to_thread(wait_until, lambda: receiver.refused >= 3, "three refusals")
        await export.stop()
    finally:
        logging.getLogger().removeHandler(seen)
    assert seen.names == ["edge_agent.export.otlp_sender"]


async def test_what_http_logs_while_exporting_is_not_exported(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    caplog.set_level(logging.DEBUG)
    export = exporter(receiver.endpoint, signals=["metrics", "logs"])
    assert export.log_handler is not None
    root.addHandler(export.log_handler)
    try:
        export.start()
        await asyncio.to_thread(wait_until, lambda: len(receiver.requests["/v1/metrics"]) >= 3, "three exports")
        logging.getLogger("urllib3").warning("of another thread")
        await export.stop()
    finally:
        root.removeHandler(export.log_handler)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    assert [record.body.string_value for name, record in receiver.logs() if name.startswith("urllib3")] == [
        "of another thread"
    ]


async def test_one_connection_serves_an_export(receiver: Receiver) -> None:
    export = exporter(receiver.endpoint, signals=["metrics", "traces"], interval="1h")
    export.trace(TickTrace(1, 10, (Stage("score", 10, 5),), sensors=1, score=0.0, p_value=None))
    await send_once(export)
    assert receiver.connections == 1


def test_what_cannot_be_encoded_is_named_and_not_tried_again(receiver: Receiver) -> None:
    options = TelemetryOptions.model_validate({"endpoint": receiver.endpoint})
    collector = Collector(options, "1.2.3")
    try:
        with pytest.raises(CollectorError, match=r"Failed to encode span batch: .*'int' object has no attribute") as e:
            collector.send_spans([1])  # type: ignore[list-item]  # no span can come out of TickTrace that fails
        assert not e.value.retryable
    finally:
        collector.close()


def test_environment_adds_nothing_to_the_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "secret=leaked")
    assert set(resource("gateway-7", "1.2.3", {}).attributes) == {
        "service.name",
        "service.version",
        "service.instance.id",
        "host.name",
    }


def test_sdk_is_not_loaded_unless_configured() -> None:
    program = (
        "import asyncio, sys\n"
        "from edge_agent.export.otlp import OtlpExporter, TelemetryOptions\n"
        "from edge_agent.metrics import Metrics\n"
        "export = OtlpExporter(TelemetryOptions(), Metrics(), 'gateway-7', '1.2.3')\n"
        "export.start()\n"
        "asyncio.run(export.stop())\n"
        "print([name for name in ('opentelemetry', 'google.protobuf', 'requests', 'urllib3') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "[]\n"
