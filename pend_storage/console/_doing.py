"""Doing: from the request of an action to its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pend_storage._plain import plain
from pend_storage._shown import clause
from pend_storage.console._actions import Action, why_not
from pend_storage.console._actors import Actor
from pend_storage.console._documents import VERSION, answered
from pend_storage.console._guard import failure
from pend_storage.console._requests import (
    ActionRequest,
    Call,
    ChangedSinceError,
    parse_request,
    require_decided,
    require_unchanged,
)
from pend_storage.console._screens import raw_of
from pend_storage.console._site import Site
from pend_storage.console._steps import reveal_quarantine
from pend_storage.console._tasks import BusyError, Result, Task
from pend_storage.errors import (
    ConfigError,
    Conflict,
    JobCancelled,
    LockTimeout,
    PendStorageError,
    StaleEpoch,
    StoreUnavailable,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.operations.jobs import acted

__all__ = ["do_action", "download", "show_task"]

_PATIENCE: Final = 2.0
"""Seconds that a request waits for its action; a longer one is answered with 202."""
_LOGGER: Final = logging.getLogger("pend_storage.console")
_CHANGED: Final = (Conflict, StaleEpoch, SwitchRefused)
_AWAY: Final = (StoreUnavailable, LockTimeout, SwitchTimeout)


async def do_action(
    site: Site, request: Request, actor: Actor, *, action: Action
) -> Response:
    """Begin an action, and answer with its result, or with the task that goes on."""
    try:
        wanted = parse_request(await request.body())
        require_decided(wanted, site.settings.environment)
        task = site.tasks.begin(
            action.name,
            "look" if wanted.dry_run else action.lane,
            lambda: _result(site, action, wanted, actor),
            by=actor.name,
            key=wanted.idempotency_key,
            digest=wanted.digest(),
        )
    except ConfigError as error:
        return failure(422, str(error))
    except BusyError as error:
        return failure(409, str(error), snapshot=site.snapshot(actor))
    return await _answer(task, _PATIENCE)


async def download(site: Site, request: Request, actor: Actor) -> Response:
    """Answer with the bytes of a quarantined record, and let the log say who has them."""
    try:
        wanted = parse_request(await request.body())
        require_decided(wanted, site.settings.environment)
        wanted.id, wanted.dry_run = request.path_params["id"], False
        name, content = await run_in_threadpool(_raw, site, wanted, actor)
    except ConfigError as error:
        return failure(422, str(error))
    except PendStorageError as error:
        return failure(503, str(error))
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}.bin"'},
    )


def _raw(site: Site, wanted: ActionRequest, actor: Actor) -> tuple[str, bytes]:
    found = raw_of(site.reading, str(wanted.id))
    look = site.poller.latest or site.poller.ask()
    if look is None or look.status is None:
        raise StoreUnavailable("no look is done yet", store="the environment")
    call = Call(settings=site.settings, request=wanted, actor=actor, status=look.status)
    reveal_quarantine(call)
    return found


async def show_task(site: Site, request: Request, actor: Actor) -> Response:
    """Answer with the result of a task that was begun, or that it still runs."""
    task = site.tasks.find(request.path_params["id"])
    if task is None or (task.by != actor.name and not actor.may("operate")):
        return failure(
            404,
            "there is no such task: the console was restarted, or it ended long ago.",
        )
    return await _answer(task, 0)


async def _answer(task: Task, patience: float) -> Response:
    waiting = asyncio.wrap_future(task.future)
    done, _ = await asyncio.wait({waiting}, timeout=patience)
    if not done:
        document = {
            "task": task.id,
            "action": task.action,
            "state": "running",
            "sentence": f"{task.action} goes on; it does not need this page",
        }
        return answered(document, 202)
    result = task.future.result()
    return answered(
        {**result.document, "task": task.id, "action": task.action, "state": "done"},
        result.status,
    )


def _result(site: Site, action: Action, wanted: ActionRequest, actor: Actor) -> Result:
    """Do an action in its thread; every error is a result."""
    try:
        return _done(site, action, wanted, actor)
    except (ChangedSinceError, *_CHANGED) as error:
        _look_again(site)
        return _failed(409, str(error), snapshot=site.snapshot(actor))
    except _AWAY as error:
        return _failed(503, str(error))
    except (JobCancelled, PendStorageError) as error:
        return _failed(422, str(error))
    except Exception as error:
        # A message of another library may hold a value of a record.
        _LOGGER.exception("the action %s failed", action.name)
        return _failed(
            500, f"{action.name} failed ({type(error).__name__}): see the log."
        )


def _done(site: Site, action: Action, wanted: ActionRequest, actor: Actor) -> Result:
    seen = site.poller.latest
    look = site.poller.ask(newer_than=0 if seen is None else seen.number)
    status = None if look is None else look.status
    reason = why_not(action, site.settings, status, actor)
    if status is None:
        return _failed(503, "nothing is known of the environment: look again.")
    require_unchanged(wanted, status)
    if reason is not None:
        return _failed(422, f"{action.name}: {reason}.")
    call = Call(settings=site.settings, request=wanted, actor=actor, status=status)
    with acted(actor.name, wanted.reason or None):
        outcome = action.run(call)
    if not wanted.dry_run:
        _look_again(site)
    document = {
        "ok": outcome.ok,
        "sentence": clause(outcome.sentence),
        "dry_run": wanted.dry_run,
        "result": plain(outcome.result),
    }
    return Result(200, document)


def _look_again(site: Site) -> None:
    """Look now: what the page asks for next shows what was done."""
    seen = site.poller.latest
    site.poller.ask(newer_than=0 if seen is None else seen.number)


def _failed(status: int, sentence: str, **members: Any) -> Result:
    return Result(
        status, {"version": VERSION, "ok": False, "error": sentence, **members}
    )
