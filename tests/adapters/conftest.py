"""The stand of the PostgreSQL tests is used by the conformance tests too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "postgres"))
