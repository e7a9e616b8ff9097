"""What errors of network, TLS and broker mean to a user, and whether waiting can mend them."""

from __future__ import annotations

import os
import ssl

from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import AdapterError, RetryableAdapterError

_ABOUT_US = {
    "Bad user name or password",
    "Not authorized",
    "Client identifier not valid",
    "Unsupported protocol version",
    "Bad authentication method",
    "Banned",
}
"""Reason codes that come again however often we try."""

_REFUSING_ALERTS = ("certificate", "unknown ca", "access denied", "handshake failure", "protocol version")
_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID


def refusal(address: str, what: str, code: ReasonCode) -> AdapterError:
    """The error for a reason code of the broker (MQTT 5 section 2.4); those about our identity are permanent."""
    message = f"{address}: {what}: {code.getName()} (reason code {code.value})"
    if code.getName() in _ABOUT_US:
        return AdapterError(f"{message}; check `username`, `password`, `client_id` and the broker's access rules")
    return RetryableAdapterError(message)


def network_failure(address: str, what: str, error: OSError) -> AdapterError:
    """The error for a socket that failed. TLS errors are told apart: their numbers mean something else."""
    if isinstance(error, ssl.SSLError):
        return _tls_failure(address, error)
    # The system's own words: asyncio puts the address in their place.
    reason = os.strerror(error.errno) if error.errno else str(error)
    return RetryableAdapterError(f"{address}: {what}: {reason}")


def _tls_failure(address: str, error: ssl.SSLError) -> AdapterError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_failure(address, error)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return RetryableAdapterError(f"{address}: the broker ended the TLS connection")
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version number" in reason or "record layer" in reason:
        return AdapterError(f"{address}: does not speak TLS on this port; check `port` and `tls`")
    if "alert" in reason and any(alert in reason for alert in _REFUSING_ALERTS):
        return AdapterError(
            f"{address}: the broker refused our side of TLS ({reason}); check `tls.cert_file` and `tls.key_file`"
        )
    return RetryableAdapterError(f"{address}: TLS failed: {reason}")


def _certificate_failure(address: str, error: ssl.SSLCertVerificationError) -> AdapterError:
    message = f"{address}: the broker's certificate is refused: {error.verify_message}"
    if error.verify_code == _NOT_YET_VALID:
        # A gateway without a battery clock starts in 1970 and gets its time later.
        return RetryableAdapterError(f"{message}; is the clock of this machine right?")
    return AdapterError(f"{message}; check `tls.ca_file`, `host` (or `tls.server_name`) and the certificate's dates")
