"""The edge-agent command."""
