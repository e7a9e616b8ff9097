"""The stands of the PostgreSQL and hawkBit tests are used by the conformance tests too."""

import sys
from pathlib import Path

for folder in ("postgres", "hawkbit"):
    sys.path.append(str(Path(__file__).parent / folder))
