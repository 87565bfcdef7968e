"""The application: it opens the store, answers its errors, and closes it at the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from changes import NotThereError
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from guard import BodyLimit, admin_tokens
from routes import guarded, health

import pend_storage as ps
from pend_storage.pend import LAYOUTS, SCHEMA

__all__ = ["create_app"]

NOT_NOW: Final = 503
STATUS: Final[dict[type[Exception], int]] = {
    NotThereError: 404,
    ps.InvalidQuery: 400,
    ps.Conflict: 409,
    ps.UniqueViolation: 409,
    ps.InvalidRecord: 422,
    ps.ReferenceViolation: 422,
    ps.StoreUnavailable: NOT_NOW,
    ps.StaleEpoch: NOT_NOW,  # a switch has taken longer than the store would wait
    ps.LockTimeout: NOT_NOW,
}
"""What each error is answered with; any other is a fault of the server."""

LATER: Final = (
    "The data cannot be reached at the moment. Nothing was changed: try again."
)
UNKNOWN: Final = "Whether the change was made is not known. Read before you repeat it."
"""Answers of a 503. Clients do not learn what the servers are called: the log does."""

log: Final = logging.getLogger(__name__)


def create_app(place: Path | None = None, *, pages: bool = False) -> FastAPI:
    """The application; with uvicorn: ``uvicorn --factory app:create_app``.

    Args:
        place: ``pend.toml``, or a directory of JSON files; None: what ``PEND_CONFIG``
            names, or ``pend.toml`` in the current directory.
        pages: serve ``/docs`` and ``/openapi.json``, which show every route to anybody.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = await asyncio.to_thread(open_store, place)
        async with ps.AsyncStore(store) as app.state.db:
            yield

    schema = "/openapi.json" if pages else None
    app = FastAPI(title="A Pend server", lifespan=lifespan, openapi_url=schema)
    app.state.admin_tokens = admin_tokens()
    app.include_router(health)
    app.include_router(guarded)
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RequestValidationError, refuse)
    for kind in STATUS:
        app.add_exception_handler(kind, explain)
    return app


def open_store(place: Path | None) -> ps.Store:
    """The store of a configuration; of a directory, JSON alone."""
    if place is not None and place.is_dir():
        return ps.JsonStore(SCHEMA, place, layouts=LAYOUTS)
    return ps.open_store(place)


async def explain(request: Request, error: Exception) -> Response:
    """Answer an error with its status, and with a sentence that clients may see."""
    status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
    if status < NOT_NOW:
        return answer(status, str(error), {})
    log.error("%s %s: %s", request.method, request.scope["route"].path, error)
    known = not isinstance(error, ps.StoreUnavailable) or error.outcome_known
    return answer(status, LATER if known else UNKNOWN, {"Retry-After": "1"})


async def refuse(_: Request, error: Exception) -> Response:
    """Say where a request is wrong. What was sent, perhaps a secret, is not repeated."""
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    return answer(422, [{"loc": each["loc"], "msg": each["msg"]} for each in found], {})


def answer(status: int, detail: object, headers: dict[str, str]) -> Response:
    """JSON in ASCII: names that a client sends need not be text that can be encoded."""
    body = json.dumps({"detail": detail})
    return Response(body, status, headers, "application/json")
