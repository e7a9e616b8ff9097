"""TLS set-up from files."""

from __future__ import annotations

import ssl

from edge_adapters.mqtt.connection import TlsOptions
from edge_agent.errors import AdapterError


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """A verifying client context; reads files, so call it in a thread. :raises AdapterError: for unusable files."""
    context = _trust(options)
    if options.cert_file is not None:
        password = options.key_password.reveal() if options.key_password else ""
        try:
            context.load_cert_chain(options.cert_file, options.key_file, password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise AdapterError(
                f"tls.cert_file, tls.key_file: cannot use {str(options.cert_file)!r}: {error}; "
                "expected PEM files that belong together"
            ) from error
    return context


def _trust(options: TlsOptions) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise AdapterError(
            f"tls.ca_file: cannot use {str(options.ca_file)!r}: {error}; expected a PEM file with certificates"
        ) from error
