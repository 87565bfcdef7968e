"""Probes: liveness, readiness and metrics, for containers, balancers and Prometheus."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pend_storage._extras import missing_package
from pend_storage._health import Health
from pend_storage.console._actors import Actor
from pend_storage.console._documents import answered
from pend_storage.console._guard import failure
from pend_storage.console._site import Site
from pend_storage.errors import StoreUnavailable

__all__ = ["liveness", "metrics", "readiness", "readiness_in_full"]

_DEADLINE: Final = 1.4
"""Seconds after which a question for the readiness is answered in any case."""


async def liveness(site: Site, request: Request, actor: Actor | None) -> Response:
    """Answer that the process works; no store is asked.

    A database that is down is no reason to restart a fleet of servers.
    """
    del site, request, actor
    return answered({"ok": True})


async def readiness(site: Site, request: Request, actor: Actor | None) -> Response:
    """Answer 200 where the primary answers, else 503."""
    if "verbose" in request.query_params and actor is not None:
        return await readiness_in_full(site, request, actor)
    found = await _health(site)
    ready = found is not None and found.ready
    return answered({"ok": ready}, 200 if ready else 503)


async def readiness_in_full(
    site: Site, request: Request, actor: Actor | None
) -> Response:
    """Answer with every check of the readiness."""
    del request, actor
    found = await _health(site)
    if found is None:
        said = f"no answer within {_DEADLINE} s"
        return answered({"ok": False, "sentence": said, "checks": []}, 503)
    document = {
        "ok": found.ready,
        "sentence": found.sentence,
        "at": found.at,
        "checks": found.checks,
    }
    return answered(document, 200 if found.ready else 503)


async def _health(site: Site) -> Health | None:
    """Return the health; None where even that takes too long."""
    asking = asyncio.ensure_future(run_in_threadpool(site.health))
    done, _ = await asyncio.wait({asking}, timeout=_DEADLINE)
    return asking.result() if done else None


async def metrics(site: Site, request: Request, actor: Actor | None) -> Response:
    """Answer a scrape of Prometheus."""
    del actor
    try:
        rendered = await run_in_threadpool(
            _rendered, site, request.headers.get("accept", "")
        )
    except ModuleNotFoundError as error:
        missing = missing_package(error, user="a scrape")
        return failure(404, str(missing or error))
    body, kind = rendered
    return Response(body, headers={"Content-Type": kind})


def _rendered(site: Site, accept: str) -> tuple[bytes, str]:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra

    from pend_storage.instrumentation.prometheus import (  # noqa: PLC0415 - needs it
        PairCollector,
        render,
    )

    def made() -> Any:
        registry = CollectorRegistry()
        collector: Any = PairCollector(lambda: _status(site))
        registry.register(collector)
        return registry

    return render(site.kept("registry", float("inf"), made), accept)


def _status(site: Site) -> Any:
    """Return the status of a look that is fresh enough for a scrape."""
    look = site.poller.ask()
    if look is None or look.status is None:
        raise StoreUnavailable("no look is done yet", store="the environment")
    return look.status
