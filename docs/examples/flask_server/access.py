"""Guards of every step: who asks, how much a request may send, and how it is read."""

from __future__ import annotations

import json
import logging
import os
import secrets
from typing import Any, Final

from flask import Flask, abort, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.wrappers import Response

__all__ = ["MOST_ITEMS", "admin", "guard", "items_of", "members"]

MOST_BYTES: Final = 256 * 1024
"""Bytes of a request's body that are read; a larger one is answered with 413."""
MOST_ITEMS: Final = 200
"""Records of one page, or of one request."""
OPEN: Final = frozenset({"show_health"})
"""Functions whose routes need no token: what a load balancer asks."""

log: Final = logging.getLogger(__name__)


def guard(app: Flask) -> None:
    """Let only administrators in: every route that is not open answers 401 without a token."""
    tokens = _admin_tokens()
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    app.register_error_handler(HTTPException, _refuse)

    @app.before_request
    def require_admin() -> None:
        if request.endpoint in OPEN:
            return
        given = request.authorization
        token = (given.token or "") if given and given.type == "bearer" else ""
        # Each is compared, in constant time: the time of an answer tells nothing of a token.
        found = [
            name
            for name, known in tokens.items()
            if secrets.compare_digest(known.encode(), token.encode())
        ]
        if not found:
            raise Unauthorized(
                "the token of an administrator is needed",
                www_authenticate=WWWAuthenticate("bearer"),
            )
        g.admin = found[0]


def admin() -> str:
    """Return the name of the administrator who asks; never one from the request's body."""
    name: str = g.admin
    return name


def members(*names: str) -> list[Any]:
    """The members of these names of the request's body."""
    try:
        body = request.get_json()
    except RecursionError:
        abort(400, "the body is nested too deeply")
    if not isinstance(body, dict) or any(body.get(name) is None for name in names):
        abort(422, f"expected an object with {', '.join(names)}")
    return [body[name] for name in names]


def items_of(name: str, value: Any) -> list[Any]:
    """Return a list of the request's body, if it is one, and not too long."""
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        abort(422, f"{name} must be a list of {MOST_ITEMS} at most")
    return value


def _refuse(error: HTTPException) -> Response:
    """Answer in JSON, with the headers of the error, such as ``WWW-Authenticate``."""
    response = error.get_response()
    content = json.dumps({"error": error.description})
    headers = {**response.headers, "Content-Type": "application/json"}
    return Response(content, error.code, headers)


def _admin_tokens() -> dict[str, str]:
    """Tokens by administrator: ``ADMIN_TOKENS="ada:TOKEN bob:TOKEN"``; none: 401 for all."""
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
