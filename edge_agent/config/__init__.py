"""The configuration file: schema, reading, checking."""
