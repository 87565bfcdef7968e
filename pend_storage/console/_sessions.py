"""Sessions: who is asking, logging in with a token, logging out."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pend_storage.console._actors import Actor
from pend_storage.console._documents import answered
from pend_storage.console._guard import failure
from pend_storage.console._logins import COOKIE, SESSION_SECONDS, TokenAuthority
from pend_storage.console._site import Site

__all__ = ["log_in", "log_out", "who"]


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    token: str


def _described(site: Site, actor: Actor) -> dict[str, object]:
    return {
        "actor": {"name": actor.name, "roles": sorted(actor.roles)},
        "login": site.authority.login,
        "logout": site.authority.login == "token",
        "environment": site.settings.environment,
        "read_only": site.read_only,
    }


async def who(site: Site, request: Request, actor: Actor | None) -> Response:
    """Answer who is asking; 401 where a login is needed, with the way to log in."""
    del request
    if actor is None:
        return failure(
            401, "log in to see this environment.", login=site.authority.login
        )
    return answered(_described(site, actor))


async def log_in(site: Site, request: Request, actor: Actor | None) -> Response:
    """Log in with a token; the cookie is for this console only, and no script reads it."""
    del actor
    authority = site.authority
    if not isinstance(authority, TokenAuthority):
        return failure(404, f"one does not log in here: {authority.login}.")
    address = "" if request.client is None else request.client.host
    if not authority.throttle.is_open(address):
        return failure(429, "too many failed logins: wait a minute.")
    try:
        given = msgspec.json.decode(await request.body(), type=_Login)
    except msgspec.MsgspecError:
        return failure(422, 'send {"token": "..."}.')
    found = authority.log_in(given.token)
    if found is None:
        authority.throttle.failed(address)
        return failure(401, "this token is not known here.", login=authority.login)
    who_logs_in, cookie = found
    answer = answered(_described(site, who_logs_in))
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=SESSION_SECONDS,
        path=request.scope.get("root_path") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


async def log_out(site: Site, request: Request, actor: Actor | None) -> Response:
    """Forget the cookie of this browser."""
    del site, actor
    answer = answered({"ok": True})
    answer.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
    return answer
