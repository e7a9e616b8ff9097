"""Does a model bundle load and compute here what it computed where it was made?"""

from __future__ import annotations

from pathlib import Path


def check_bundle(path: Path | None) -> str:
    """One sentence on the bundle at ``path`` (None: the universal model). :raises BundleError: it must not be used."""
    from edge_agent.bundle import read_bundle, universal_bundle
    from edge_agent.inference import self_test

    bundle = universal_bundle() if path is None else read_bundle(path)
    report = self_test(bundle)
    manifest = bundle.manifest
    speed = f"p99 {report.p99_ms:.2f} ms at {report.sensors} sensors"
    return f"{manifest.name} {manifest.version} passed its self-test, {speed}"
