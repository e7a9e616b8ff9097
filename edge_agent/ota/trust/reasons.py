"""Every way in which TUF can say no, as one reason and one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tuf.api import exceptions as tuf

from edge_agent.errors import OtaError

# The first that fits decides: subclasses before their bases.
_REASONS: tuple[tuple[type[Exception], str, str], ...] = (
    (tuf.ExpiredMetadataError, "expired", "nothing is installed until the repository signs new metadata"),
    (tuf.BadVersionNumberError, "rollback", "the repository offers something older than was seen here"),
    (tuf.UnsignedMetadataError, "signature", "it is not signed by enough of the keys that may sign it"),
    (tuf.LengthOrHashMismatchError, "mismatch", "it is not the file that was signed"),
    (tuf.RepositoryError, "signature", "it is no metadata that could be trusted"),
    (tuf.DownloadLengthMismatchError, "too_large", "no more of it was read"),
    (tuf.DownloadError, "unreachable", "tried again later"),
    (MemoryError, "too_large", "it does not fit into the memory allowed"),
)


@contextmanager
def translated(origin: str) -> Iterator[None]:
    """Raise what TUF raises within as :class:`~edge_agent.errors.OtaError`; reading is done within, too, because
    some of it is lazy. Errors of our disk come as ``disk``."""
    try:
        yield
    except OtaError:
        raise
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        raise OtaError("disk", f"ota: cannot write{where}: {error.strerror or error}") from error
    except Exception as error:
        for kind, reason, consequence in _REASONS:
            if isinstance(error, kind):
                raise OtaError(reason, f"repository {origin}: {_said(error)}; {consequence}") from error
        raise


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:300]
