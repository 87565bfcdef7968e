"""Routes: one table of every path, its method, and the role that it needs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pend_storage.console import (
    _doing,
    _pages,
    _probes,
    _screens,
    _sessions,
    _streams,
)
from pend_storage.console._actions import ACTIONS, action_documents
from pend_storage.console._actors import Actor, ConsoleRole
from pend_storage.console._documents import answered
from pend_storage.console._guard import BodyTooLargeError, failure
from pend_storage.console._site import Site
from pend_storage.errors import (
    ConfigError,
    InvalidQuery,
    PendStorageError,
    StoreUnavailable,
)

__all__ = ["ROUTES", "Endpoint", "RouteSpec", "routes_of"]

_LOGGER: Final = logging.getLogger("pend_storage.console")
Handler: TypeAlias = Callable[[Site, Request, Any], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """Route of the console."""

    method: str
    path: str
    handler: Handler
    role: ConsoleRole | None = "view"
    """Role that is needed; None: everyone may ask, also without a login."""
    mutates: bool = False
    """Whether it changes something beside this browser's own login."""
    headless: bool = False
    """Whether it is there in a process for probes and metrics alone."""


# -- documents ----------------------------------------------------------------------------


async def _environment(site: Site, request: Request, actor: Actor) -> Response:
    del request
    await run_in_threadpool(site.poller.ask)
    return Response(site.encoded_snapshot(actor), media_type="application/json")


async def _series(site: Site, request: Request, actor: Actor) -> Response:
    del request, actor
    return answered({"series": site.series.document(whole=True)})


def _screen(make: Callable[[Site, Request, Actor], dict[str, Any]]) -> Handler:
    """Return the handler of a screen, whose document is made in a thread."""

    async def handle(site: Site, request: Request, actor: Actor) -> Response:
        try:
            return answered(await run_in_threadpool(make, site, request, actor))
        except (ConfigError, InvalidQuery) as error:
            return failure(422, str(error))
        except StoreUnavailable as error:
            return failure(503, str(error))
        except PendStorageError as error:
            return failure(500, str(error))

    return handle


def _divergences(site: Site, request: Request, actor: Actor) -> dict[str, Any]:
    del actor
    return _screens.divergences(site.reading, dict(request.query_params))


def _quarantine(site: Site, request: Request, actor: Actor) -> dict[str, Any]:
    del actor
    return _screens.quarantine(site.reading, dict(request.query_params))


def _quarantined(site: Site, request: Request, actor: Actor) -> dict[str, Any]:
    del actor
    return _screens.quarantined(site.reading, request.path_params["id"], whole=False)


def _history(site: Site, request: Request, actor: Actor) -> dict[str, Any]:
    del request, actor
    return _screens.history(site.reading)


def _audit(site: Site, request: Request, actor: Actor) -> dict[str, Any]:
    del actor
    return _screens.audit(site.reading, dict(request.query_params))


def _backups(site: Site, request: Request, actor: Actor) -> dict[str, Any]:
    del request, actor
    listing, problem = site.kept(
        "backups", 10.0, lambda: _screens.listed_backups(site.reading)
    )
    look = site.poller.latest
    status = None if look is None else look.status
    facts = None if status is None else status.backup
    return _screens.backups(listing, problem, facts)


async def _action(site: Site, request: Request, actor: Actor) -> Response:
    """Answer whether an action is allowed now; also where it is not there to be used."""
    look = site.poller.latest
    status = None if look is None else look.status
    documents = action_documents(site.settings, status, actor, read_only=site.read_only)
    name = request.path_params["name"]
    found = next((each for each in documents if each["name"] == name), None)
    if found is None:
        return failure(404, "there is no such action.")
    return answered(found)


# -- the table ----------------------------------------------------------------------------


def _route(method: str, path: str, handler: Handler, **options: Any) -> RouteSpec:
    return RouteSpec(method=method, path=path, handler=handler, **options)


ROUTES: Final[tuple[RouteSpec, ...]] = (
    _route("GET", "/", _pages.index, role=None),
    _route("GET", "/static/{name:path}", _pages.asset, role=None),
    _route("GET", "/livez", _probes.liveness, role=None, headless=True),
    _route("GET", "/readyz", _probes.readiness, role=None, headless=True),
    _route("GET", "/metrics", _probes.metrics, headless=True),
    _route("GET", "/health/metrics", _probes.metrics, headless=True),
    _route("GET", "/api/v1/health", _probes.readiness_in_full, headless=True),
    _route(
        "GET", "/api/admin/database-health", _probes.readiness_in_full, headless=True
    ),
    _route("GET", "/api/v1/session", _sessions.who, role=None),
    _route("POST", "/api/v1/session", _sessions.log_in, role=None),
    _route("DELETE", "/api/v1/session", _sessions.log_out, role=None),
    _route("GET", "/api/v1/environment", _environment),
    _route("GET", "/api/v1/stream", _streams.snapshots),
    _route("GET", "/api/v1/series", _series),
    _route("GET", "/api/v1/divergences", _screen(_divergences)),
    _route("GET", "/api/v1/quarantine", _screen(_quarantine)),
    _route("GET", "/api/v1/quarantine/{id}", _screen(_quarantined)),
    _route("GET", "/api/v1/history", _screen(_history)),
    _route("GET", "/api/v1/audit", _screen(_audit)),
    _route("GET", "/api/v1/changes", _streams.changes),
    _route("GET", "/api/v1/backups", _screen(_backups)),
    _route("GET", "/api/v1/tasks/{id}", _doing.show_task),
    _route("GET", "/api/v1/actions/{name}", _action),
    _route(
        "POST",
        "/api/v1/quarantine/{id}/raw",
        _doing.download,
        role="reveal",
        mutates=True,
    ),
    *(
        _route(
            "POST",
            f"/api/v1/actions/{action.name}",
            partial(_doing.do_action, action=action),
            role=action.role,
            mutates=True,
        )
        for action in ACTIONS.values()
    ),
)
"""Every route; what is not here does not exist."""


class Endpoint:
    """Endpoint of a path: asks for the actor, and for the role, before it is handled."""

    def __init__(self, site: Site, specs: dict[str, RouteSpec]) -> None:
        """Make one.

        Args:
            site: what the routes share.
            specs: of the path, by method.
        """
        self._site = site
        self._specs = specs

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        method = "GET" if request.method == "HEAD" else request.method
        spec = self._specs[method]
        try:
            return await self._answer(spec, request)
        except BodyTooLargeError:
            raise
        except Exception as error:
            # A message of another library may hold a value of a record.
            _LOGGER.exception("a request for %s failed", spec.path)
            said = f"the console failed ({type(error).__name__}): see its log."
            return failure(500, said)

    async def _answer(self, spec: RouteSpec, request: Request) -> Response:
        actor = await self._site.authority.actor_of(request)
        if spec.role is not None:
            if actor is None:
                return self._unknown()
            if not actor.may(spec.role):
                return failure(
                    403, f"this needs the role {spec.role}, and {actor.name} lacks it."
                )
        return await spec.handler(self._site, request, actor)

    def _unknown(self) -> Response:
        login = self._site.authority.login
        if login == "none":
            return failure(
                403,
                "this console answers its own machine only, and no proxy: give it a login "
                "(--token-file, --users, --trust-header), or pass authorise=.",
            )
        answer = failure(401, "log in to see this environment.", login=login)
        answer.headers.update(self._site.authority.challenge())
        return answer


def routes_of(site: Site, *, headless: bool) -> list[Route]:
    """Return the routes of a console.

    Args:
        site: what they share. Where it is read-only, none that changes something is there.
        headless: only those for probes and metrics.
    """
    by_path: dict[str, dict[str, RouteSpec]] = {}
    for spec in ROUTES:
        if (site.read_only and spec.mutates) or (headless and not spec.headless):
            continue
        by_path.setdefault(spec.path, {})[spec.method] = spec
    return [
        Route(path, Endpoint(site, specs).answer, methods=[*specs])
        for path, specs in by_path.items()
    ]
