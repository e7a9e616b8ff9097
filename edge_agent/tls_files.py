"""A verifying TLS context from PEM files, for those that have no options to read them from, too."""

from __future__ import annotations

import ssl
from pathlib import Path

from edge_agent.errors import AdapterError


def verifying_context(
    ca_file: Path | str | None, cert_file: Path | str | None, key_file: Path | str | None, key_password: str | None
) -> ssl.SSLContext:
    """A client context that verifies certificate and name; reads files, so call it in a thread. The arguments are those
    of :class:`~edge_agent.tls.TlsOptions`. :raises AdapterError: for unusable files."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise AdapterError(
            f"tls.ca_file: cannot use {str(ca_file)!r}: {error}; expected a PEM file with certificates"
        ) from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, key_password or "")  # "": nobody is asked for it
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise AdapterError(
                f"tls.cert_file, tls.key_file: cannot use {str(cert_file)!r}: {error}; "
                "expected PEM files that belong together"
            ) from error
    return context
