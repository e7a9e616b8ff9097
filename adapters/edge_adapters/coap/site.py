"""What devices POST and PUT to: finds the resource, puts blocks together, offers the readings, chooses the answer.

====================================================  ====================================
readings accepted by the agent                        2.04 Changed
more blocks are expected                              2.31 Continue
body cannot be understood                             4.00 with a diagnostic payload
no protection where it is required                    4.01
a critical option that is not known here              4.02
no resource with such a path                          4.04
another method than POST or PUT                       4.05
a block without the ones before it                    4.08
body too large, announced or in fact                  4.13 with Size1: the largest allowed
Content-Format not taken by this resource             4.15
the agent cannot take readings now                    5.03 with Max-Age: when to try again
asked to be a proxy                                   5.05
====================================================  ====================================
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from aiocoap import Code, Message
from aiocoap.numbers.optionnumbers import OptionNumber

from edge_adapters.coap.blocks import BlockAssembly, BodyTooLargeError, IncompleteBodyError
from edge_adapters.coap.body import BodyReader, UnsupportedFormatError
from edge_adapters.coap.options import ServerOptions, ServerResource
from edge_adapters.coap.paths import PathPattern
from edge_agent.contract import AdapterContext, Emitter
from edge_agent.errors import PayloadError

BUSY_MAX_AGE_S: Final = 5
_CACHED_PATHS: Final = 4096
_DIAGNOSTIC_CHARACTERS: Final = 200
_PROXY: Final = frozenset({OptionNumber.PROXY_URI, OptionNumber.PROXY_SCHEME})
_UNDERSTOOD: Final = frozenset(
    {
        OptionNumber.URI_HOST,
        OptionNumber.URI_PORT,
        OptionNumber.URI_PATH,
        OptionNumber.URI_QUERY,
        OptionNumber.ACCEPT,
        OptionNumber.BLOCK1,
        OptionNumber.BLOCK2,
        OptionNumber.OSCORE,
        *_PROXY,
    }
)


class _Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """An answer other than "accepted"; ``reason`` None when the agent itself is the cause."""

    def __init__(self, code: Any, reason: str | None, diagnostic: str, **options: Any) -> None:
        super().__init__(diagnostic)
        self.reason = reason
        self.answer = Message(code=code, payload=diagnostic[:_DIAGNOSTIC_CHARACTERS].encode(), **options)


class ReadingSite:
    """The server side as aiocoap wants it: every request comes to :meth:`render_to_pipe`."""

    def __init__(self, options: ServerOptions, context: AdapterContext, emit: Emitter) -> None:
        self._context = context
        self._emit = emit
        self._resources = [(PathPattern(resource.path), resource) for resource in options.resources]
        self._protected_only = bool(options.oscore or options.dtls) and not options.allow_unprotected
        self._blocks = BlockAssembly()
        self._readers: OrderedDict[tuple[str, ...], tuple[ServerResource, BodyReader]] = OrderedDict()

    async def render_to_pipe(self, pipe: Any) -> None:
        """Answer one request; never raises for what a device sent."""
        answer = self.answer(pipe.request)
        pipe.add_response(answer, is_last=True)
        answer.request = None  # the library remembers the answer for a while, and with it would keep the request

    def answer(self, request: Any) -> Any:
        """The response to ``request``; what is refused because of the device is counted by its reason."""
        try:
            answer = self._accepted(request)
        except _Refusal as refusal:
            if refusal.reason is not None:
                self._context.reject(refusal.reason, f"{request.code} from {request.remote.hostinfo}: {refusal}")
            answer = refusal.answer
        answer.opt.block1 = request.opt.block1
        answer.opt.no_response = request.opt.no_response
        return answer

    def _accepted(self, request: Any) -> Any:
        self._check_options(request)
        resource, reader = self._reader(request.opt.uri_path)
        if request.code not in (Code.POST, Code.PUT):
            raise _Refusal(Code.METHOD_NOT_ALLOWED, "method", "expected POST or PUT")
        body = self._body(request, resource.max_body)
        if body is None:
            return Message(code=Code.CONTINUE)
        try:
            batch = reader.read(body, request.opt.content_format)
        except UnsupportedFormatError:
            text = f"Content-Format {int(request.opt.content_format)} is not taken by {resource.path}"
            raise _Refusal(Code.UNSUPPORTED_CONTENT_FORMAT, "content_format", text) from None
        except PayloadError as error:
            raise _Refusal(Code.BAD_REQUEST, error.reason, str(error)) from error
        if batch is not None and not self._emit.offer(batch):
            raise _Refusal(Code.SERVICE_UNAVAILABLE, None, "busy, try again", max_age=BUSY_MAX_AGE_S)
        return Message(code=Code.CHANGED)

    def _check_options(self, request: Any) -> None:
        if self._protected_only and not _protected(request.remote):
            raise _Refusal(Code.UNAUTHORIZED, "unprotected", "expected a request protected by OSCORE or DTLS")
        for option in request.opt.option_list():
            if option.number in _PROXY:
                raise _Refusal(Code.PROXYING_NOT_SUPPORTED, "proxy", "this is not a proxy")
            if option.number.is_critical() and option.number not in _UNDERSTOOD:
                raise _Refusal(Code.BAD_OPTION, "bad_option", f"option {int(option.number)} is not understood")

    def _reader(self, path: tuple[str, ...]) -> tuple[ServerResource, BodyReader]:
        found = self._readers.get(path)
        if found is not None:
            return found
        for pattern, resource in self._resources:
            captures = pattern.match(path)
            if captures is not None:
                if len(self._readers) >= _CACHED_PATHS:  # paths come from outside: bounded
                    self._readers.popitem(last=False)
                found = self._readers[path] = resource, BodyReader(resource, captures, self._context)
                return found
        raise _Refusal(Code.NOT_FOUND, "unknown_path", f"no resource for the path /{'/'.join(path)}")

    def _body(self, request: Any, max_body: int) -> bytes | None:
        """The whole body, or None while blocks are missing."""
        block = request.opt.block1
        try:
            if max(request.opt.size1 or 0, len(request.payload)) > max_body:
                raise BodyTooLargeError
            if block is None:
                return bytes(request.payload)
            key = (request.remote.blockwise_key, request.code, request.opt.uri_path, request.opt.request_tag)
            now_ns = self._context.clock.monotonic_ns()
            return self._blocks.feed(key, block.start, request.payload, block.more, max_body, now_ns)
        except BodyTooLargeError:
            text = f"expected a body of at most {max_body} bytes"
            raise _Refusal(Code.REQUEST_ENTITY_TOO_LARGE, "too_large", text, size1=max_body) from None
        except IncompleteBodyError:
            text = "a block without the ones before it; start again with block 0"
            raise _Refusal(Code.REQUEST_ENTITY_INCOMPLETE, "incomplete", text) from None


def _protected(remote: Any) -> bool:
    """Whether a request came through DTLS or OSCORE (asked without importing what they need: 10 MB)."""
    return remote.scheme == "coaps" or hasattr(remote, "security_context")
