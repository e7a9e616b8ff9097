"""Who may do what: the tokens that are known, and what each of them opens."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from edge_agent.api.options import ApiOptions, Scope
from edge_agent.options import Secret


@dataclass(frozen=True, slots=True)
class Key:
    """``name``: of one of option ``api.tokens``; None: opens everything. ``scopes``: None: all there are."""

    token: Secret
    name: str | None = None
    scopes: frozenset[Scope] | None = None

    def opens(self, scope: Scope) -> bool:
        """Whether it may be used for that."""
        return self.scopes is None or scope in self.scopes


class Keyring:
    """All keys of one server."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = [(key.token.reveal().encode(), key) for key in keys]

    @classmethod
    def of(cls, options: ApiOptions, local: Secret | None) -> Self:
        """Those of the options, and the one that the agent keeps in its data folder."""
        whole = [Key(token) for token in (options.token, local) if token is not None]
        named = [Key(one.token, name, frozenset(one.scopes)) for name, one in options.tokens.items()]
        return cls([*whole, *named])

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, sent: bytes) -> Key | None:
        """The key with that token. All are compared, each in constant time, so that the delay tells nothing."""
        found = [key for token, key in self._keys if hmac.compare_digest(sent, token)]
        return found[0] if found else None
