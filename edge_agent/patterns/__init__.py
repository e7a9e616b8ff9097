"""Known attacks and faults, and what incidents look like beside them. Pure; the patterns themselves are data."""
