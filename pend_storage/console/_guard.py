"""Guard before every route: hosts, origins, content types, sizes, and headers of answers.

A page of another site can make a browser send requests to the console, also to one on the
loopback interface. So a request must name an allowed host, and one that may change
something must come from the console's own page, or from no browser at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pend_storage._shown import shown

__all__ = ["LARGEST_BODY", "BodyTooLargeError", "Guard", "failure", "too_large"]

LARGEST_BODY: Final = 1 << 20
"""Bytes of a request's body: 1 MiB, enough for a repaired record."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def failure(status: int, sentence: str, **members: object) -> Response:
    """Return the answer of a request that is refused: a sentence that says what to do."""
    return Response(
        msgspec.json.encode({"version": 1, "error": sentence, **members}, enc_hook=str),
        status,
        media_type="application/json",
    )


def too_large() -> Response:
    """Return the answer to a body that is too large."""
    return failure(413, f"the body has more than {LARGEST_BODY:,} bytes: send less.")


class Guard:
    """Guard of an application: refuses before a route is looked for."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        """Guard an application.

        Args:
            app: what is guarded.
            hosts: names and addresses that the header ``Host`` may have, without a port;
                ``*``: any, where a proxy before it has checked that.
        """
        self._app = app
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        sending = _with_headers(send)
        if refusal is not None:
            await refusal(scope, receive, sending)
            return
        await self._app(scope, _bounded(receive), sending)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer of a request that must not be passed on, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if "*" not in self._hosts and _hostname(host) not in self._hosts:
            return failure(
                400,
                f"the host {shown(host)} is not allowed: name it by --host, or use one of "
                "the console's own.",
            )
        if scope["method"] in _SAFE:
            return None
        if not _is_same_origin(headers, host, str(scope.get("scheme", "http"))):
            return failure(
                403,
                "the request comes from another site, or does not say where from: use the "
                "console's own page; a program sends a bearer token, or the header "
                "Sec-Fetch-Site: same-origin.",
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return failure(
                415, "the body must be JSON: send Content-Type: application/json."
            )
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > LARGEST_BODY:
            return too_large()
        return None


def _hostname(host: str) -> str:
    """Return the name in a header ``Host``, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_same_origin(headers: Headers, host: str, scheme: str) -> bool:
    """Return whether a request was made by the console's page, or by a program.

    A browser adds a cookie and a password by itself, and never a bearer token.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        found = urlsplit(origin)
        # A proxy may have ended TLS, so the scheme need not be the same one.
        return found.netloc == host and found.scheme in {scheme, "https"}
    return site is not None or headers.get("authorization", "").lower().startswith(
        "bearer "
    )


class BodyTooLargeError(Exception):
    """The body of a request is larger than is allowed."""


def _bounded(receive: Receive) -> Receive:
    """Return a receiver that ends where a body without a length grows too large."""
    size = 0

    async def counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            raise BodyTooLargeError
        return message

    return counting


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
