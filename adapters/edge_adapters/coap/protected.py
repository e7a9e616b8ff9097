"""OSCORE in front of the site. Imported only when a context is configured: it needs 10 MB of cryptography."""

from __future__ import annotations

from typing import Any, Final

from aiocoap import Code, Message
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper

_EDHOC_PATH: Final = (".well-known", "edhoc")


class ProtectedSite:
    """Takes the protection off requests and puts it on answers; unprotected requests pass, the site judges them."""

    def __init__(self, site: Any, credentials: CredentialsMap) -> None:
        self._wrapper = OscoreSiteWrapper(site, credentials)

    async def render_to_pipe(self, pipe: Any) -> None:
        """Answer one request."""
        if pipe.request.opt.uri_path == _EDHOC_PATH:  # key agreement is not offered; the library would log each try
            pipe.add_response(Message(code=Code.NOT_FOUND), is_last=True)
            return
        await self._wrapper.render_to_pipe(pipe)
