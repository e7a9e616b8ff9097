"""TLS set-up and what its errors mean to a user."""

from __future__ import annotations

import ssl

from edge_adapters.mqtt.connection import TlsOptions
from edge_agent.errors import AdapterError, RetryableAdapterError

_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID


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


def tls_error(address: str, error: ssl.SSLError | ssl.CertificateError) -> AdapterError:
    """The error to raise: refused certificates do not get better by waiting, broken connections may."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_error(address, error)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return RetryableAdapterError(f"{address}: the broker ended the TLS handshake")
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version number" in reason or "record layer" in reason:
        return AdapterError(f"{address}: does not speak TLS on this port; check `port` and `tls`")
    if "alert" in reason:
        return AdapterError(
            f"{address}: the broker refused our side of TLS ({reason}); check `tls.cert_file` and `tls.key_file`"
        )
    return AdapterError(f"{address}: TLS failed: {reason}")


def _certificate_error(address: str, error: ssl.SSLCertVerificationError) -> AdapterError:
    message = f"{address}: the broker's certificate is refused: {error.verify_message}"
    if error.verify_code == _NOT_YET_VALID:
        # A gateway without a battery clock starts in 1970 and gets its time later.
        return RetryableAdapterError(f"{message}; is the clock of this machine right?")
    return AdapterError(f"{message}; check `tls.ca_file`, `host` (or `tls.server_name`) and the certificate's dates")
