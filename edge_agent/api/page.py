"""The status page at ``/``: one self-contained file, no assets from elsewhere, correct without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

HTML = Path(__file__).with_name("page.html").read_bytes()
"""The page, the same for everybody: all data comes by script, and is shown as text only."""


def _hashes(tag: bytes) -> str:
    """The CSP source expressions of the inline blocks (CSP level 3, section 2.3.1)."""
    blocks = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), HTML, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(block).digest()).decode()}'" for block in blocks)


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_hashes(b'style')}; script-src {_hashes(b'script')}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Names the blocks of the page by their hashes: nothing else runs, whatever a sensor is called."""
