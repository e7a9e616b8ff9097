"""The exceptions of the agent.

Three questions decide which one to raise::

    EdgeAgentError
    ├── ConfigError              wrong configuration: said before anything starts
    ├── AdapterError             an adapter cannot go on, and waiting will not help
    │   └── RetryableAdapterError    it may work again later: the supervisor retries
    ├── PayloadError             one frame from outside could not be understood; it is counted and skipped
    ├── BundleError              a model bundle must not be used
    ├── StoreError               a file of ours is damaged or cannot be written
    ├── OtaError                 an update cannot be had, or must not be used
    ├── DataFileError            a recording given by the user cannot be used
    └── ControlError             a request to the running daemon cannot be carried out

A programming mistake is not in the tree; it is left to fail. A message says where, what was found, what was
expected and what to do; data from outside is quoted with ``!r``.
"""

from __future__ import annotations


class EdgeAgentError(Exception):
    """Base of everything the agent raises on purpose."""


class ConfigError(EdgeAgentError):
    """One or more mistakes in the configuration; ``problems`` holds one message for each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AdapterError(EdgeAgentError):
    """An adapter cannot go on and a retry would not help (wrong password, refused certificate)."""


class RetryableAdapterError(AdapterError):
    """An adapter cannot go on now; the supervisor starts it again after a back-off."""


class PayloadError(EdgeAgentError):
    """One frame could not be understood. ``reason`` is a short fixed word used as a metric label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BundleError(EdgeAgentError):
    """A model bundle is damaged, has another contract, or failed its self-test."""


class StoreError(EdgeAgentError):
    """A file the agent keeps for itself is damaged or cannot be written."""


class OtaError(EdgeAgentError):
    """An update over the air cannot be had or must not be used. ``reason``: a fixed word, used as a metric label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DataFileError(EdgeAgentError):
    """A recording, edge list or table given by the user cannot be used."""


class ControlError(EdgeAgentError):
    """A request to the running daemon cannot be carried out; ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.status = status
