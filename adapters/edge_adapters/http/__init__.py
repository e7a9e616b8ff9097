"""What the adapters that speak HTTP share; no adapter itself."""
