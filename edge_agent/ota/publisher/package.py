"""Bundles and configurations as targets: checked as a gateway will check them, and the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import yaml

from edge_agent.bundle import Bundle, read_bundle
from edge_agent.bundle.manifest import MANIFEST
from edge_agent.errors import OtaError
from edge_agent.ota.ring import MAX_CONFIG_BYTES, MAX_MODEL_BYTES, ConfigTarget, ModelTarget


def read_model(path: Path, family: str) -> tuple[Bundle, bytes, ModelTarget]:
    """The bundle at ``path`` (folder or tar), the tar to publish, and how ring files name it.

    :raises BundleError: a gateway would refuse it.
    """
    bundle = read_bundle(path)
    raw = _tar(bundle)
    manifest = bundle.manifest
    target = ModelTarget(
        path=f"models/{family}/{manifest.name}-{manifest.version}.tar",
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=_within(f"bundle {path}", len(raw), MAX_MODEL_BYTES),
        bundle=bundle.sha256,
    )
    return bundle, raw, target


def _tar(bundle: Bundle) -> bytes:
    """A plain tar (POSIX.1-1988 ustar) without times and owners: the same bundle gives the same bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(bundle.files, key=lambda name: (name != MANIFEST, name)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(bundle.files[name]), 0o644
            archive.addfile(member, io.BytesIO(bundle.files[name]))
    return file.getvalue()


def read_config(path: Path, name: str | None) -> tuple[bytes, ConfigTarget]:
    """The configuration sections at ``path``, and how ring files name them.

    :raises OtaError: reason ``config``, it is no YAML mapping with sections, or too large.
    """
    try:
        raw = path.read_bytes()
        _within(str(path), len(raw), MAX_CONFIG_BYTES)
        plain = yaml.safe_load(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise OtaError("config", f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise OtaError(
            "config", f"{path}: expected sections of the configuration, such as `decision:`, or {{}} to change nothing"
        )
    digest = hashlib.sha256(raw).hexdigest()
    return raw, ConfigTarget(path=f"config/{name or path.stem}-{digest[:12]}.yaml", sha256=digest, bytes=len(raw))


def _within(what: str, size: int, limit: int) -> int:
    if size > limit:
        raise OtaError("too_large", f"{what}: got {size} bytes, expected at most {limit}")
    return size
