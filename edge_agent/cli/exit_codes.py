"""What the exit code of a command means. The reference page is rendered from this."""

from __future__ import annotations

from enum import IntEnum

from edge_agent.errors import ConfigError, ControlError, DataFileError, EdgeAgentError, OtaError


class ExitCode(IntEnum):
    """Exit codes of every command."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "Done, and nothing is wrong."
    FAILED = (
        1,
        "It was tried and it failed: a device, a model, a store, a check of `doctor`; or the daemon had to stop.",
    )
    USAGE = (
        2,
        "Wrong arguments, wrong configuration, a data file that cannot be used, or an extra that is not installed.",
    )
    NOT_RUNNING = 3, "The daemon cannot be reached: it is not running, or `--url` is wrong."
    REFUSED = 4, "The running daemon refused the request; the message says why."
    INTERRUPTED = 130, "Stopped by Ctrl-C."


def exit_code(error: EdgeAgentError) -> ExitCode:
    """The exit code for ``error``."""
    if isinstance(error, ControlError):
        return ExitCode.NOT_RUNNING if error.status in _NO_ANSWER else ExitCode.REFUSED
    wrong = isinstance(error, OtaError) and error.reason in _WRONG_ARGUMENTS
    return ExitCode.USAGE if wrong or isinstance(error, ConfigError | DataFileError) else ExitCode.FAILED


_WRONG_ARGUMENTS = ("name", "number", "ring", "role")
_NO_ANSWER = (502, 503, 504)
