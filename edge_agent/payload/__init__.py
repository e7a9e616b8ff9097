"""Payload bytes to named values: JSON, CSV, text and binary forms shared by the adapters."""
