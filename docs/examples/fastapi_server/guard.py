"""Guards of the application: who asks, and how much a request may send."""

from __future__ import annotations

import logging
import os
import secrets
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Admin", "BodyLimit", "admin_tokens", "current_admin", "require_json"]

MOST_BYTES: Final = 256 * 1024
"""Bytes of a request's body that are read."""

log: Final = logging.getLogger(__name__)
_bearer: Final = HTTPBearer(auto_error=False, description="a token of ADMIN_TOKENS")


def admin_tokens() -> dict[str, str]:
    """Return the tokens by administrator: ``ADMIN_TOKENS="ada:TOKEN bob:TOKEN"``.

    Without any, every guarded route answers 401.

    Raises:
        ValueError: an entry has no name, or a token of less than 32 characters.
    """
    entries = [
        each.partition(":") for each in os.environ.get("ADMIN_TOKENS", "").split()
    ]
    if any(not name or len(token) < 32 for name, _, token in entries):  # noqa: PLR2004
        raise ValueError(
            "ADMIN_TOKENS: write NAME:TOKEN, with spaces between, each token of 32 "
            "characters at least: python -c 'import secrets; print(secrets.token_hex())'"
        )
    if not entries:
        log.warning("ADMIN_TOKENS is not set: every guarded route answers 401")
    return {name: token for name, _, token in entries}


async def current_admin(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """Return the name of the administrator whose token the request has; 401 without one."""
    token = "" if given is None else given.credentials
    tokens: dict[str, str] = request.app.state.admin_tokens
    # Each is compared, in constant time: the time of an answer tells nothing of a token.
    found = [
        name
        for name, known in tokens.items()
        if secrets.compare_digest(known.encode(), token.encode())
    ]
    if not found:
        raise HTTPException(
            401,
            "the token of an administrator is needed",
            {"WWW-Authenticate": "Bearer"},
        )
    return found[0]


Admin: TypeAlias = Annotated[str, Depends(current_admin)]
"""Name of the administrator who asks: the actor of all that the request writes."""


async def require_json(request: Request) -> None:
    """Refuse a body that a form of another page could send: 415 unless it is JSON."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.method in {"POST", "PUT", "PATCH"} and kind != "application/json":
        raise HTTPException(415, "send application/json")


class BodyLimit:
    """ASGI middleware: a request with a larger body is answered with 413.

    It counts what arrives: a client need not send a length, or the true one.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and count its body while it is read."""
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise HTTPException(413, f"the body has more than {self.most} bytes")
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)
