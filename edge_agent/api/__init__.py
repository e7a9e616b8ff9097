"""Local HTTP API and health end points."""
