"""The simulated plant and the demonstration built on it."""
