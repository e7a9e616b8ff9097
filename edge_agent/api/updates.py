"""End points of updates over the air."""

from __future__ import annotations

from aiohttp import web

from edge_agent.api.handlers import Handlers, actor, as_json, json_object, no_keys, path_on_gateway


async def ota(handlers: Handlers, request: web.Request) -> web.StreamResponse:
    """Where updates stand."""
    return as_json(handlers.control.ota())


async def ota_check(handlers: Handlers, request: web.Request) -> web.StreamResponse:
    """Have the updater look, soon."""
    no_keys(await json_object(request))
    return as_json(await handlers.control.ota_check(actor(request)))


async def ota_activate(handlers: Handlers, request: web.Request) -> web.StreamResponse:
    """Begin with what is staged."""
    no_keys(await json_object(request))
    return as_json(await handlers.control.ota_activate(actor(request)))


async def ota_rollback(handlers: Handlers, request: web.Request) -> web.StreamResponse:
    """Take back."""
    no_keys(await json_object(request))
    return as_json(await handlers.control.ota_rollback(actor(request)))


async def ota_sideload(handlers: Handlers, request: web.Request) -> web.StreamResponse:
    """Look in a folder of this machine."""
    path = path_on_gateway(await json_object(request), "the folder of a repository")
    return as_json(await handlers.control.ota_sideload(path, actor(request)))
