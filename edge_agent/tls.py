"""TLS of a client: which authorities it trusts, and how it shows who it is. The other side is always verified."""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import Field, model_validator

from edge_agent.options import Options, Secret
from edge_agent.tls_files import verifying_context


class TlsOptions(Options):
    """TLS to a server. Its certificate and name are always verified; there is no way to turn that off."""

    ca_file: Path | None = Field(
        default=None, description="PEM file with the authorities to trust. Default: those of the system."
    )
    cert_file: Path | None = Field(
        default=None, description="PEM file with the client certificate (and its chain), where the server asks for one."
    )
    key_file: Path | None = Field(
        default=None, description="PEM file with the private key of `cert_file`, when it is not in the same file."
    )
    key_password: Secret | None = Field(default=None, description="Password of `key_file`, if it is encrypted.")
    server_name: str | None = Field(
        default=None,
        description="Name expected in the server's certificate, when it differs from the host connected to.",
    )

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> TlsOptions:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file: needs `cert_file` too")
        return self


def client_context(options: TlsOptions) -> ssl.SSLContext:
    """A verifying client context; reads files, so call it in a thread. :raises AdapterError: for unusable files."""
    password = options.key_password.reveal() if options.key_password else None
    return verifying_context(options.ca_file, options.cert_file, options.key_file, password)
