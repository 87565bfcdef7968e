"""Application: the routes of one environment behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pend_storage.config import Settings
from pend_storage.console._actors import Authorise, Authority, HostAuthority
from pend_storage.console._guard import (
    BodyTooLargeError,
    Guard,
    failure,
    too_large,
)
from pend_storage.console._logins import LoopbackAuthority
from pend_storage.console._routes import routes_of
from pend_storage.console._site import Site
from pend_storage.errors import ConfigError
from pend_storage.factory import ConfiguredPair
from pend_storage.store import Store

__all__ = ["LOOPBACK_HOSTS", "Console", "app", "application"]

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_SENTENCES: Final = {
    404: "there is no such page here.",
    405: "this cannot be done here: the console only looks, or the method is wrong.",
}


class Console:
    """Console of an environment: an ASGI application.

    One that runs alone is closed by the server at its end. A host application into which
    it is mounted calls :meth:`close`.
    """

    def __init__(self, site: Site, *, headless: bool, hosts: Iterable[str]) -> None:
        """Make it; :func:`app` does."""
        self.site = site
        self.inner = Starlette(
            routes=routes_of(site, headless=headless),
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _refused, BodyTooLargeError: _refused},
        )
        self._guarded = Guard(self.inner, hosts=(*LOOPBACK_HOSTS, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._guarded(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(self.close)

    def close(self) -> None:
        """Close the stores that it reads from, and end its threads. Idempotent."""
        self.site.close()


def app(
    environment: Settings | Store,
    *,
    read_only: bool = False,
    authorise: Authorise | None = None,
    hosts: Iterable[str] = (),
    runbook: str | None = None,
) -> Console:
    """Make the console of an environment: an ASGI application.

    It runs alone, or is mounted into an application of Starlette or FastAPI under any path:
    ``host.mount("/console", console.app(settings, authorise=who))``. It reads in a way that
    changes nothing; only its actions change something.

    Args:
        environment: settings, as :func:`pend_storage.config.load_settings` returns them,
            or the pair that :func:`pend_storage.open_store` has opened with both stores.
        read_only: leave the actions out.
        authorise: returns the :class:`Actor` of a request, or None to refuse it. Without
            it, requests of this machine alone are answered, with all roles.
        hosts: names that the header ``Host`` may have, besides those of the loopback
            interface; ``*``: any, where the host application has checked that.
        runbook: address of the pages for operators, for a link.

    Raises:
        ConfigError: a store alone, which does not know its settings.
    """
    authority: Authority
    authority = LoopbackAuthority() if authorise is None else HostAuthority(authorise)
    return application(
        settings_of(environment),
        authority,
        read_only=read_only,
        hosts=hosts,
        runbook=runbook,
    )


def settings_of(environment: Settings | Store) -> Settings:
    """Return the settings of an environment.

    Raises:
        ConfigError: a store alone, which does not know them.
    """
    if isinstance(environment, Settings):
        return environment
    if isinstance(environment, ConfiguredPair):
        return environment.settings
    raise ConfigError(
        "the console needs the settings of the environment, which this store does not "
        "know: pass pend_storage.config.load_settings(path, environment)."
    )


def application(
    settings: Settings,
    authority: Authority,
    *,
    read_only: bool = False,
    headless: bool = False,
    hosts: Iterable[str] = (),
    runbook: str | None = None,
) -> Console:
    """Make the application; arguments as of :func:`app`.

    Args:
        settings: of the environment.
        authority: decides who has sent a request.
        read_only: leave the actions out.
        headless: only probes and metrics.
        hosts: further names for the header ``Host``.
        runbook: address of the pages for operators.
    """
    site = Site(settings, authority, read_only=read_only or headless, runbook=runbook)
    return Console(site, headless=headless, hosts=hosts)


async def _refused(_: Request, error: Exception) -> Response:
    """Answer an error of the framework as all others are answered."""
    if isinstance(error, BodyTooLargeError):
        return too_large()
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    sentence = _SENTENCES.get(error.status_code, f"refused: {error.detail}.")
    answer = failure(error.status_code, sentence)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
