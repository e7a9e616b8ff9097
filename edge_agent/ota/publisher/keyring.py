"""Keys of a publisher: public halves with the place of the private one, and signers made of them when they are needed.

A private key is an encrypted PKCS#8 PEM file (RFC 5958) in ``keys/`` or on a stick, or wherever a signer URI of
securesystemslib says: a PKCS#11 token (``hsm:``), a cloud's key service. Private keys are opened one by one, as late
as possible; what has to be typed comes from one function, :data:`Ask`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import Error as SigningError
from securesystemslib.signer import (  # type: ignore[attr-defined]  # it has no __all__
    CryptoSigner,
    HSMSigner,
    Key,
    Signer,
    SSlibKey,
)

from edge_agent.durable import make_folder, sync_folder
from edge_agent.errors import OtaError
from edge_agent.ota.ring import NAME

KEYS = "keys"
FILE = "file"
MIN_PASSPHRASE = 8

Ask = Callable[[str, bool], str]
"""Gives a passphrase or PIN for what is named; True: it is a new one. May be asked again when it was wrong."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key by its name; ``uri``: where its private half is (``file:NAME.pem``: in ``keys/`` or another folder)."""

    name: str
    uri: str
    public: Key

    @property
    def keyid(self) -> str:
        """Hash of the public half, by which metadata names it."""
        return str(self.public.keyid)


class Keyring:
    """The keys in ``folder``; private files are looked for in ``others`` (a stick) as well."""

    def __init__(self, folder: Path, ask: Ask | None = None, others: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._others = tuple(others)
        self._ask = ask
        self._open: dict[str, Signer] = {}
        self._opened_with: list[str] = []
        self._known = {key.name: key for key in _read_known(folder)}

    def __iter__(self) -> Iterator[KnownKey]:
        return iter(self._known.values())

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def named(self, name: str) -> KnownKey:
        """:raises OtaError: there is none of that name."""
        if name not in self._known:
            raise OtaError(
                "key", f"{self._folder}: got {name!r}, expected a key: {', '.join(self._known) or 'none yet'}"
            )
        return self._known[name]

    def by_id(self, keyid: str) -> KnownKey | None:
        """The key with that id, if it is known here."""
        return next((key for key in self._known.values() if key.keyid == keyid), None)

    def generate(self, name: str, into: Path | None = None) -> KnownKey:
        """Make an ed25519 key, encrypted with a new passphrase, in ``into`` (``keys/`` by default).

        :raises OtaError: the name is taken, or the passphrase is too short.
        """
        self._check_new(name)
        place = into or self._folder
        if place.joinpath(f"{name}.pem").exists():
            raise OtaError("key", f"{place / (name + '.pem')}: exists already; take another name")
        private = Ed25519PrivateKey.generate()
        passphrase = self._new_passphrase(name)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode()))
        make_folder(place)
        _write_new(place / f"{name}.pem", pem, 0o600)
        signer = CryptoSigner(private)
        self._open[signer.public_key.keyid] = signer
        return self._remember(KnownKey(name, f"{FILE}:{name}.pem", signer.public_key))

    def add(self, name: str, uri: str, public: Key) -> KnownKey:
        """Get to know a key whose private half is elsewhere: any signer URI of securesystemslib, or another folder."""
        self._check_new(name)
        if self.by_id(str(public.keyid)) is not None:
            raise OtaError("key", f"{name}: this key is known already, as {self.by_id(str(public.keyid)).name!r}")  # type: ignore[union-attr]
        return self._remember(KnownKey(name, uri, public))

    def add_from_token(self, name: str, uri: str) -> KnownKey:
        """Get to know an EC key on a PKCS#11 token by ``hsm:ID?label=TOKEN``; ``PYKCS11LIB`` names the module."""
        self._check_new(name)
        found = re.fullmatch(r"hsm:([0-9]*)(?:\?label=(.+))?", uri)
        if found is None:
            raise OtaError("key", f"{name}: got {uri!r}, expected hsm:ID?label=TOKEN, such as hsm:2?label=fleet")
        number = int(found[1]) if found[1] else None
        try:
            uri, public = HSMSigner.import_(number, found[2], lambda what: self._secret(f"{what} of {name}", new=False))
        except (SigningError, ValueError, OSError, RuntimeError) as error:
            raise OtaError("key", f"{name}: {uri}: the token cannot be used: {error}") from error
        return self.add(name, uri, public)

    def can_sign(self, keyid: str) -> bool:
        """Whether the private half may be had here; it is not opened."""
        if keyid in self._open:
            return True
        key = self.by_id(keyid)
        return key is not None and (not key.uri.startswith(f"{FILE}:") or self._file(key) is not None)

    def signer(self, keyid: str) -> Signer:
        """:raises OtaError: reason ``key`` (not here) or ``passphrase`` (wrong)."""
        if keyid not in self._open:
            key = self.by_id(keyid)
            if key is None:
                raise OtaError("key", f"{self._folder}: the key with id {keyid[:12]}… is not known here")
            self._open[keyid] = self._opened(key)
        return self._open[keyid]

    def _opened(self, key: KnownKey) -> Signer:
        if not key.uri.startswith(f"{FILE}:"):
            try:
                return Signer.from_priv_key_uri(
                    key.uri, key.public, lambda what: self._secret(f"{what} of {key.name}", new=False)
                )
            except (SigningError, ValueError, OSError, RuntimeError) as error:
                raise OtaError("key", f"{key.name}: {key.uri}: cannot be used: {error}") from error
        path = self._file(key)
        if path is None:
            folders = ", ".join(str(folder) for folder in (self._folder, *self._others))
            raise OtaError("key", f"{key.name}: {key.name}.pem is not in {folders}; give its folder with --keys")
        return self._decrypted(key, path)

    def _decrypted(self, key: KnownKey, path: Path) -> Signer:
        pem = path.read_bytes()
        for passphrase in (*self._opened_with, None):
            text = self._secret(f"passphrase of {key.name}", new=False) if passphrase is None else passphrase
            try:
                private = load_pem_private_key(pem, text.encode())
                signer = CryptoSigner(private, key.public)  # type: ignore[arg-type]
            except (ValueError, TypeError, UnsupportedAlgorithm, SigningError) as error:
                if passphrase is not None:
                    continue
                raise OtaError("passphrase", f"{path}: {_why_not(pem, error)}") from error
            if passphrase is None:
                self._opened_with.append(text)
            return signer
        raise AssertionError("the loop ends with what was asked for")

    def _file(self, key: KnownKey) -> Path | None:
        name = key.uri.removeprefix(f"{FILE}:")
        return next((path for folder in (self._folder, *self._others) if (path := folder / name).is_file()), None)

    def _secret(self, what: str, *, new: bool) -> str:
        if self._ask is None:
            raise OtaError("passphrase", f"{what}: is needed, and nobody can be asked for it")
        return self._ask(what, new)

    def _new_passphrase(self, name: str) -> str:
        text = self._secret(f"passphrase of {name}", new=True)
        if len(text) < MIN_PASSPHRASE:
            raise OtaError("passphrase", f"{name}: got {len(text)} characters, expected at least {MIN_PASSPHRASE}")
        return text

    def _check_new(self, name: str) -> None:
        if NAME.fullmatch(name) is None:
            raise OtaError("key", f"got key name {name!r}, expected 1 to 64 letters, digits, `_`, `.` or `-`")
        if name in self._known:
            raise OtaError("key", f"{name}: there is a key of that name already; take another one")

    def _remember(self, key: KnownKey) -> KnownKey:
        plain = {"keyid": key.keyid, "uri": key.uri, "public": key.public.to_dict()}
        make_folder(self._folder)
        _write_new(self._folder / f"{key.name}.json", json.dumps(plain, indent=1).encode() + b"\n", 0o644)
        self._known[key.name] = key
        return key


def public_from_pem(raw: bytes) -> SSlibKey:
    """A public key as PEM (ed25519, ECDSA, RSA). :raises OtaError: it is none."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return SSlibKey.from_crypto(load_pem_public_key(raw))
    except (ValueError, UnsupportedAlgorithm, SigningError) as error:
        raise OtaError("key", f"not a public key in PEM: {error}") from error


def _why_not(pem: bytes, error: Exception) -> str:
    if b"ENCRYPTED" not in pem:
        return f"not an encrypted PKCS#8 key ({error}); encrypt it: openssl pkcs8 -topk8 -in OLD -out NEW"
    return "the passphrase does not open it; try again with the right one"


def _read_known(folder: Path) -> Iterator[KnownKey]:
    for path in sorted(folder.glob("*.json")):
        try:
            plain = json.loads(path.read_bytes())
            yield KnownKey(path.stem, str(plain["uri"]), Key.from_dict(plain["keyid"], plain["public"]))
        except (OSError, ValueError, KeyError, TypeError, SigningError) as error:
            raise OtaError(
                "key", f"{path}: cannot be read as a public key: {error}; take it back from a copy"
            ) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
