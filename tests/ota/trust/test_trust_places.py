"""Repositories on TLS servers and in folders: the way there is guarded, too."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway import Gateway
from static_server import serving
from tuf_repository import Repository

from edge_agent.errors import OtaError
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import AbsentError, transport_for

OLD, NEW = b"the old model " * 5_000, b"the new model " * 5_000


class Authority:
    """Issues certificates; the file ``ca`` is what to trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._signed("authority", self._key, ca=True).public_bytes(serialization.Encoding.PEM))

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, ca: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        names: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names[: 1 if name == "elsewhere" else 2]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name: str) -> Path:
        """A PEM file with certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._folder / f"{name}.pem"
        form = serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        file.write_bytes(secret + self._signed(name, key).public_bytes(serialization.Encoding.PEM))
        return file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def server_context(authority: Authority, name: str = "server", clients: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue(name))
    if clients:
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def gateway_at(tmp_path: Path, origin: str, repository: Repository, tls: dict[str, str] | None) -> Gateway:
    gateway = Gateway(tmp_path / "gateway", origin, repository.first_root)
    settings = gateway.settings
    gateway.settings = Settings(settings.folder, settings.root, timeout_s=3.0, tls=tls)
    return gateway


def refused(gateway: Gateway) -> str:
    with pytest.raises(OtaError) as caught:
        gateway.check()
    assert caught.value.reason == "unreachable"
    return str(caught.value)


def test_a_server_that_the_authority_vouches_for_is_trusted(
    tmp_path: Path, repository: Repository, authority: Authority
) -> None:
    repository.release(NEW)
    with serving(repository.folder, server_context(authority)) as server:
        gateway = gateway_at(tmp_path, server.origin, repository, {"ca_file": str(authority.ca)})
        gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_an_unknown_server_is_refused(tmp_path: Path, repository: Repository, authority: Authority) -> None:
    repository.release(NEW)
    with serving(repository.folder, server_context(authority)) as server:
        assert "certificate" in refused(gateway_at(tmp_path, server.origin, repository, None))


def test_a_server_with_another_name_is_refused_unless_it_is_expected(
    tmp_path: Path, repository: Repository, authority: Authority
) -> None:
    repository.release(NEW)
    tls = {"ca_file": str(authority.ca)}
    with serving(repository.folder, server_context(authority, "elsewhere")) as server:
        gateway = gateway_at(tmp_path, server.origin, repository, tls)
        refused(gateway)
        named = Settings(gateway.settings.folder, gateway.settings.root, tls={**tls, "server_name": "elsewhere"})
        gateway.settings = named
        gateway.update()
    assert gateway.model.read_bytes() == NEW


def test_a_client_certificate_is_shown_to_the_repository_only(
    tmp_path: Path, repository: Repository, authority: Authority
) -> None:
    repository.release(NEW)
    tls = {"ca_file": str(authority.ca)}
    with serving(repository.folder, server_context(authority, clients=True)) as server:
        gateway = gateway_at(tmp_path, server.origin, repository, tls)
        refused(gateway)
        tls["cert_file"] = str(authority.issue("gateway"))
        gateway.settings = Settings(gateway.settings.folder, gateway.settings.root, tls=tls)
        gateway.update()
        with serving(repository.folder, server_context(authority)) as front:
            front.answers["timestamp.json"] = lambda handler: handler.answer(
                302, b"", {"Location": f"https://localhost:{server.server_port}/metadata/timestamp.json"}
            )
            gateway.origin = front.origin
            refused(gateway)  # localhost is another host than 127.0.0.1: the certificate is not for it


def test_unusable_tls_files_are_named(tmp_path: Path, repository: Repository) -> None:
    gateway = gateway_at(tmp_path, "https://127.0.0.1:9", repository, {"ca_file": "/nowhere.pem"})
    assert "ota.tls.ca_file: cannot use '/nowhere.pem'" in refused(gateway)


def test_a_redirect_from_https_to_http_is_not_followed(
    tmp_path: Path, repository: Repository, authority: Authority
) -> None:
    repository.release(NEW)
    with serving(repository.folder) as plain, serving(repository.folder, server_context(authority)) as server:
        server.answers["timestamp.json"] = lambda handler: handler.answer(
            302, b"", {"Location": f"{plain.origin}/metadata/timestamp.json"}
        )
        assert "expected https" in refused(
            gateway_at(tmp_path, server.origin, repository, {"ca_file": str(authority.ca)})
        )
        assert plain.asked == []


# -- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sideload(tmp_path: Path, repository: Repository) -> Gateway:
    repository.release(OLD)
    gateway = Gateway(tmp_path / "gateway", repository.folder.as_uri(), repository.first_root)
    gateway.update()
    repository.release(NEW)
    return gateway


def test_a_folder_is_trusted_as_a_server_is(sideload: Gateway) -> None:
    sideload.update()
    assert sideload.model.read_bytes() == NEW


def test_an_older_folder_is_refused(sideload: Gateway, repository: Repository, tmp_path: Path) -> None:
    older = repository.saved(tmp_path / "older")
    repository.release(NEW + NEW)
    sideload.check()
    repository.restore(older)
    sideload.refuses("rollback")


def test_a_folder_reached_by_a_link_is_the_owner_s_choice(
    sideload: Gateway, repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "usb").symlink_to(repository.folder)
    sideload.origin = (tmp_path / "usb").as_uri()
    sideload.update()
    assert sideload.model.read_bytes() == NEW


@pytest.mark.parametrize("kind", ["file", "folder", "absolute"])
def test_links_in_a_folder_are_not_followed(
    sideload: Gateway, repository: Repository, tmp_path: Path, kind: str
) -> None:
    place = repository.folder / "metadata" if kind == "folder" else repository.file_of("timestamp")
    moved = (tmp_path if kind == "absolute" else place.parent) / "moved"
    place.rename(moved)
    place.symlink_to(moved if kind == "absolute" else moved.name)
    assert "links are not followed" in str(sideload.refuses("unreachable"))


def test_a_pipe_in_a_folder_does_not_block(sideload: Gateway, repository: Repository) -> None:
    repository.file_of("timestamp").unlink()
    os.mkfifo(repository.file_of("timestamp"))
    assert "no regular file" in str(sideload.refuses("unreachable"))


def test_a_model_missing_in_a_folder_is_said(sideload: Gateway, repository: Repository) -> None:
    for file in (repository.folder / "targets" / "models" / "pumps").iterdir():
        file.unlink()
    sideload.refuses("missing")


def test_a_folder_that_is_not_mounted_is_said(sideload: Gateway) -> None:
    sideload.origin = "file:///nowhere/fleet"
    assert "is it mounted?" in str(sideload.refuses("unreachable"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "a/../../b", "", "metadata/x%00y"])
def test_no_name_leads_out_of_a_folder(repository: Repository, tmp_path: Path, name: str) -> None:
    origin = repository.folder.as_uri()
    transport = transport_for(origin, Settings(tmp_path, tmp_path))
    with pytest.raises(OtaError, match="leads out") as caught, transport.read(f"{origin}/{name}"):
        pass
    assert not isinstance(caught.value, AbsentError)


@pytest.mark.parametrize("origin", ["ftp://example.com/x", "https://", "example.com", "file://server/share"])
def test_other_addresses_are_refused(tmp_path: Path, origin: str) -> None:
    with pytest.raises(OtaError, match="repository: got"):
        transport_for(origin, Settings(tmp_path, tmp_path))
