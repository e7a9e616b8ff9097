"""Model bundles: manifest, verification and reading."""
