"""What the sinks that speak HTTP share; no adapter itself."""
