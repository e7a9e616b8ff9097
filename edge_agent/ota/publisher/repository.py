"""A publisher's repository: every action, each as one change that is signed, audited and put in place as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_agent.errors import OtaError
from edge_agent.ota.publisher import audit, founding, keys, pending, publication, releasing, sideload, upkeep
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.journal import Put, apply, locked
from edge_agent.ota.publisher.keyring import KEYS, Ask, Keyring, KnownKey
from edge_agent.ota.publisher.metadata import AUDIT_HEAD, METADATA, REPO, read_published
from edge_agent.ota.publisher.releasing import Wanted
from edge_agent.ota.publisher.rollout import first_spread_s
from edge_agent.ota.publisher.settings import SETTINGS, RepoOptions, read_settings
from edge_agent.ota.publisher.signing import Missing, sign
from edge_agent.ota.ring import Activate, Ring

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Change:
    """What an action has done. ``counters``: of the new ring files; ``missing``: signatures, by role, without which
    nothing is published yet; ``versions``: of the new metadata."""

    action: str
    details: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    missing: Missing = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether gateways see it."""
        return not self.missing


class Repository:
    """The folder of a publisher. ``repo/`` in it is for the web server; the rest is its own and stays here.

    Nothing is kept between two actions: each reads what is published, believes only what is signed, and holds a lock.
    """

    def __init__(self, folder: Path, keyring: Keyring, now: Now | None = None) -> None:
        self.folder = folder
        self.keyring = keyring
        self._now = now or (lambda: datetime.now(UTC))

    @classmethod
    def init(
        cls,
        folder: Path,
        ask: Ask,
        *,
        families: Sequence[str] = ("default",),
        fleet: str = "default",
        rings: Sequence[str] = ("canary", "early", "stable"),
        root_keys: int = 3,
        root_threshold: int = 2,
        offline: Path | None = None,
        now: Now | None = None,
    ) -> Repository:
        """Make a new repository with new keys; ``offline``: where those of root and targets go (a stick).

        :raises OtaError: the folder is in use, or a name or number is wrong.
        """
        plan = founding.Plan(tuple(families), fleet, tuple(rings), root_keys, root_threshold, offline)
        founding.prepare_folder(folder, plan)
        repository = cls(folder, Keyring(folder / KEYS, ask, [offline] if offline else []), now)
        with locked(folder):
            draft = founding.found(folder, plan, repository.keyring, repository.time(), repository.settings.expiry)
            details = {
                "fleet": fleet,
                "families": list(families),
                "root_keys": root_keys,
                "root_threshold": root_threshold,
            }
            repository._conclude(draft, "init", details)
        return repository

    @classmethod
    def open(
        cls, folder: Path, ask: Ask | None = None, *, keys: Iterable[Path] = (), now: Now | None = None
    ) -> Repository:
        """An existing repository. ``keys``: more folders to look for private keys in.

        :raises OtaError: there is none. :raises ConfigError: its settings are wrong.
        """
        read_settings(folder / SETTINGS)
        return cls(folder, Keyring(folder / KEYS, ask, tuple(keys)), now)

    @property
    def settings(self) -> RepoOptions:
        """``repo.yaml`` as it is now. :raises ConfigError: it is wrong."""
        return read_settings(self.folder / SETTINGS)

    @property
    def served(self) -> Path:
        """What a web server serves: ``metadata/`` and ``targets/`` are in it."""
        return self.folder / REPO

    @property
    def root_file(self) -> Path:
        """The newest ``root.json``, to be given to gateways when they are set up."""
        published = read_published(self.folder)
        return self.folder / METADATA / f"{published.root.signed.version}.root.json"

    def time(self) -> datetime:
        """The moment, whole seconds, UTC."""
        return self._now().astimezone(UTC).replace(microsecond=0)

    def publish(self, bundle: Path, wanted: Wanted | None = None, **options: Any) -> Change:
        """Publish a model bundle to rings (the first one by default). ``options``: fields of :class:`Wanted`.

        :raises BundleError: a gateway would refuse it. :raises OtaError: it cannot be published.
        """
        asked = wanted or Wanted(**options)
        return self._do("publish", lambda draft: releasing.publish(draft, bundle, self._rings(asked)))

    def publish_config(self, path: Path, wanted: Wanted | None = None, **options: Any) -> Change:
        """Publish sections of the configuration to rings (the first one by default).

        :raises OtaError: it is no such file, or cannot be published.
        """
        asked = wanted or Wanted(**options)
        return self._do("publish-config", lambda draft: releasing.publish_config(draft, path, self._rings(asked)))

    def promote(self, release: str, from_ring: str, to_ring: str, activate: Activate | None = None) -> Change:
        """Give ``to_ring`` the release that ``from_ring`` has. :raises OtaError: it has another one, or was halted."""
        self._check_rings(from_ring, to_ring)
        return self._do("promote", lambda draft: releasing.promote(draft, release, from_ring, to_ring, activate))

    def halt(self, ring: str, why: str = "") -> Change:
        """Stop the release of ``ring``. A change that waits for signatures makes way for it. :raises OtaError: none."""
        self._check_rings(ring)
        return self._do("halt", lambda draft: releasing.halt(draft, ring, why), urgent=True)

    def rollback(
        self, ring: str, to_release: str, *, deny: bool = True, activate: Activate | None = None, why: str = ""
    ) -> Change:
        """Name an older release again, with a higher counter. ``deny``: the model of now is never to run again."""
        self._check_rings(ring)
        return self._do(
            "rollback", lambda draft: releasing.rollback(draft, ring, to_release, deny, activate, why), urgent=True
        )

    def activate(self, ring: str, activate: Activate) -> Change:
        """Say when gateways of ``ring`` change over to the release that it has. :raises OtaError: it has none."""
        self._check_rings(ring)
        return self._do("activate", lambda draft: releasing.activate(draft, ring, activate))

    def add_key(
        self, name: str, role: str, *, threshold: int | None = None, into: Path | None = None,
        uri: str | None = None, public: Path | None = None,
    ) -> Change:  # fmt: skip
        """Add a key to a role; a role that does not exist yet (``models-FAMILY``, ``rings-RING``) is delegated.

        A new one is made unless ``name`` is known, or ``uri`` says where it is (and ``public`` which one it is).
        """
        rings = tuple(self.settings.rings)

        def get() -> KnownKey:
            return keys.obtain(self.keyring, name, into=into, uri=uri, public=public)

        return self._do("add-key", lambda draft: keys.add(draft, get, role, threshold, rings))

    def rotate(self, role: str, old: str, new: str, *, into: Path | None = None, uri: str | None = None) -> Change:
        """Replace the key ``old`` of a role by ``new``: one that is known, or is at ``uri``, or is made."""
        retired = self.keyring.named(old)

        def get() -> KnownKey:
            return keys.obtain(self.keyring, new, into=into, uri=uri)

        return self._do("rotate", lambda draft: keys.rotate(draft, role, retired, get))

    def refresh(self, roles: Sequence[str] = ()) -> Change:
        """Sign the timestamp anew, and whatever else is in the second half of its life and can be signed here.

        ``roles``: sign these anew in any case. Roles that a pending change is about are left alone.
        """
        return self._do(
            "refresh", lambda draft: upkeep.refresh(draft, self.keyring, roles, self._pending_roles()), blocked=False
        )

    def prune(self, keep: int = 3) -> Change:
        """Remove targets that no ring and none of the last ``keep`` releases needs, and metadata long replaced."""
        return self._do("prune", lambda draft: upkeep.prune(draft, keep))

    def sign(self) -> Change:
        """Sign what waits for signatures with the keys that are here; published when nothing is missing any more."""
        with locked(self.folder):
            draft = self._draft()
            waiting = pending.resume(draft)
            return self._conclude(draft, waiting.action, waiting.details, from_pending=True)

    def discard(self) -> Change:
        """Forget the change that waits for signatures. :raises OtaError: nothing waits."""
        with locked(self.folder):
            return self._discard(self._draft())

    def status(self) -> dict[str, Any]:
        """What is published, what waits, what expires soon (``warnings``), as plain values.

        :raises OtaError: the repository or the audit log was damaged or tampered with.
        """
        return upkeep.status(self._draft(), self.settings, pending.read_pending(self.folder), self.keyring)

    @property
    def waiting(self) -> pending.Pending | None:
        """The change that waits for signatures."""
        return pending.read_pending(self.folder)

    def ring(self, name: str) -> Ring | None:
        """The published file of a ring; None while it has none."""
        self._check_rings(name)
        return self._draft().ring(name)

    def sideload(self, out: Path, ring: str, days: float = 30.0) -> Change:
        """Write a complete small repository for one ring to the new folder or ``.tar`` ``out``; it holds ``days``.

        What is published is signed anew along with it, so that gateways that saw the one go on with the other.
        """
        self._check_rings(ring)
        sideload.check_out(out)
        with locked(self.folder):
            stick, draft = self._draft(), self._draft()
            details = sideload.prepare(stick, self.keyring, ring, days, self._pending_roles())
            publication.seal(stick, self.keyring, None)
            sideload.supersede(draft, stick)
            done = self._conclude(draft, "sideload", {**details, "out": out.name})
            sideload.write(out, sideload.files(stick, ring), draft.now)
        return done

    def _do(
        self, action: str, edit: Callable[[Draft], Mapping[str, Any]], *, urgent: bool = False, blocked: bool = True
    ) -> Change:
        with locked(self.folder):
            draft = self._draft()
            if urgent and pending.read_pending(self.folder) is not None:
                self._discard(draft)
                draft = self._draft()
            waiting = pending.read_pending(self.folder)
            if blocked and waiting is not None:
                raise OtaError(
                    "pending",
                    f"{self.folder}: {waiting.action!r} waits for signatures: sign it first"
                    " (`edge-agent ota repo sign`) or forget it (`edge-agent ota repo sign --discard`)",
                )
            return self._conclude(draft, action, edit(draft))

    def _draft(self) -> Draft:
        settings = self.settings
        return Draft(read_published(self.folder), self.time(), settings.expiry, settings.counter_from)

    def _conclude(
        self,
        draft: Draft,
        action: str,
        details: Mapping[str, Any],
        *,
        from_pending: bool = False,
    ) -> Change:
        """Sign; then publish, or keep it for others to sign."""
        missing = sign(draft, self.keyring)
        if missing:
            pending.park(draft, action, details)
            line = self._entry(
                draft, "sign" if from_pending else f"{action} (pending)", {**details, "missing": missing}
            )
            apply(self.folder, [Put(audit.AUDIT, line, append=True)])
            return Change(action, details, missing=missing)
        line = self._entry(draft, action, details)
        publication.seal(draft, self.keyring, audit.digest(line))
        apply(self.folder, publication.puts(draft, line))
        if from_pending:
            pending.discard(self.folder)
        versions = {role: metadata.signed.version for role, metadata in draft.changed.items()}
        return Change(action, details, dict(details.get("rings", {})), versions=versions)

    def _discard(self, draft: Draft) -> Change:
        waiting = pending.read_pending(self.folder)
        if waiting is None:
            raise OtaError("pending", f"{self.folder}: nothing waits for signatures")
        details = {"discarded": waiting.action, **waiting.details}
        apply(self.folder, [Put(audit.AUDIT, self._entry(draft, "discard", details), append=True)])
        pending.discard(self.folder)
        return Change("discard", details)

    def _entry(self, draft: Draft, action: str, details: Mapping[str, Any]) -> bytes:
        anchor = draft.base.timestamp.signed.unrecognized_fields.get(AUDIT_HEAD)
        return audit.entry(self.folder / audit.AUDIT, draft.now, audit.actor(), action, details, anchor)

    def _pending_roles(self) -> tuple[str, ...]:
        waiting = pending.read_pending(self.folder)
        return waiting.roles if waiting is not None else ()

    def _rings(self, wanted: Wanted) -> Wanted:
        rings = tuple(wanted.rings) or (next(iter(self.settings.rings)),)
        self._check_rings(*rings)
        asked = wanted.activate
        if "spread_s" not in asked.model_fields_set:
            # Whoever publishes to a large ring, and does not say how fast, does not risk all of it at once.
            paced = [first_spread_s(self.settings.rings[ring].gateways, wanted.trial.seconds) for ring in rings]
            asked = asked.model_copy(update={"spread_s": max(asked.spread_s, *paced)})
        return wanted.model_copy(update={"rings": rings, "activate": asked})

    def _check_rings(self, *rings: str) -> None:
        self.settings.check_rings(rings, self.folder / SETTINGS)
