"""Who must sign a change, who can here, and what is still missing. Root is signed by its old and its new threshold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, VerificationResult

from edge_agent.errors import OtaError
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.keyring import Keyring
from edge_agent.ota.publisher.metadata import TOP

Missing = dict[str, int]
"""Signatures that are still missing, by role; roles that have all of theirs are not in it."""


def sign(draft: Draft, keyring: Keyring, roles: Collection[str] | None = None) -> Missing:
    """Sign what changed (in ``roles``; all by default) as far as keys are here, no more often than needed.

    Gives what is still missing then.

    :raises OtaError: a key cannot be opened (``passphrase``, ``key``).
    """
    chosen = [role for role in draft.changed if roles is None or role in roles]
    for role in chosen:
        for check in _checks(draft, role, draft.changed[role]):
            _sign_until_enough(draft.changed[role], check, keyring)
    checks = {role: _checks(draft, role, draft.changed[role], softly=False) for role in chosen}
    needed = {role: max(check().missing for check in found) for role, found in checks.items()}
    return {role: count for role, count in needed.items() if count > 0}


def _checks(
    draft: Draft, role: str, metadata: Metadata[Any], *, softly: bool = True
) -> Iterator[Callable[[], VerificationResult]]:
    """Each who must (``softly``: or should) find enough signatures. A root that changes the keys of a role at the top
    is preceded by metadata which old and new root believe, so that no gateway is turned away in between."""
    delegators = [_delegator(draft, role)]
    if role == "root" or (softly and role in TOP and "root" in draft.changed):
        delegators.append(draft.base.root.signed)
    for delegator in delegators:
        yield lambda delegator=delegator: delegator.get_verification_result(  # type: ignore[misc]
            role, metadata.signed_bytes, metadata.signatures
        )


def _delegator(draft: Draft, role: str) -> Any:
    return draft.seen("root").signed if role in TOP else draft.seen("targets").signed


def _sign_until_enough(metadata: Metadata[Any], check: Callable[[], VerificationResult], keyring: Keyring) -> None:
    for keyid in check().unsigned:
        if check().verified:
            return
        if keyring.can_sign(keyid):
            try:
                metadata.sign(keyring.signer(keyid), append=True)
            except UnsignedMetadataError as error:
                key = keyring.by_id(keyid)
                raise OtaError("key", f"{key.name if key else keyid}: {error.__cause__ or error}") from error


def believed_by_old_root(draft: Draft) -> bool:
    """Whether all top metadata of the change holds for gateways that know only the old root."""
    old: Root = draft.base.root.signed
    return all(
        old.get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified
        for role, metadata in draft.changed.items()
        if role in TOP and role != "root"
    )
