"""Tasks: actions in threads of their own, which go on when the browser is gone."""

from __future__ import annotations

import contextvars
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage._shown import shown
from pend_storage.console._actions import Lane
from pend_storage.errors import ConfigError

__all__ = ["BusyError", "Result", "Task", "Tasks"]

_KEPT: Final = 200
"""Tasks that have ended, of which the results are kept."""
_MOST_LOOKING: Final = 2
"""Previews at once: each reads what the real one would read."""
_MOST: Final = {"look": _MOST_LOOKING}


@dataclass(frozen=True, slots=True)
class Result:
    """Answer of a task: an HTTP status, and a document."""

    status: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One action that was begun."""

    id: str
    action: str
    by: str
    lane: Lane
    digest: bytes
    began: datetime
    future: Future[Result] = field(default_factory=Future)


class BusyError(Exception):
    """Another action of the same lane runs."""


class Tasks:
    """Tasks of one process, by their idempotency keys. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: OrderedDict[tuple[str, str], Task] = OrderedDict()

    def begin(
        self,
        action: str,
        lane: Lane,
        work: Callable[[], Result],
        *,
        by: str,
        key: str,
        digest: bytes,
    ) -> Task:
        """Begin an action in a thread, or return the one that this key has begun.

        Args:
            action: its name.
            lane: only one action of a lane runs at a time.
            work: does it, and never raises.
            by: name of the actor; keys of others are others.
            key: idempotency key.
            digest: of the request: a key belongs to one.

        Raises:
            BusyError: another action of the lane runs.
            ConfigError: the key was used for another request.
        """
        with self._lock:
            known = self._by_key.get((by, key))
            if known is not None:
                if (known.action, known.digest) != (action, digest):
                    raise ConfigError(
                        f"the idempotency key {shown(key)} was used for another request: "
                        "make a new one."
                    )
                return known
            self._require_free(lane)
            task = Task(
                id=secrets.token_hex(8),
                action=action,
                by=by,
                lane=lane,
                digest=digest,
                began=datetime.now(UTC),
            )
            self._by_key[by, key] = task
            self._forget()
        context = contextvars.copy_context()
        threading.Thread(
            target=lambda: task.future.set_result(context.run(work)),
            name=f"pend-action-{action}",
            daemon=True,
        ).start()
        return task

    def _require_free(self, lane: Lane) -> None:
        running = [
            task
            for task in self._by_key.values()
            if task.lane == lane and not task.future.done()
        ]
        if len(running) >= _MOST.get(lane, 1):
            first = running[0]
            raise BusyError(
                f"{first.action} of {first.by} runs since "
                f"{first.began:%H:%M:%S} UTC: wait until it has ended."
            )

    def _forget(self) -> None:
        """Drop the oldest tasks that have ended; the lock is held."""
        ended = [key for key, task in self._by_key.items() if task.future.done()]
        for key in ended[: max(0, len(ended) - _KEPT)]:
            del self._by_key[key]

    def find(self, task_id: str) -> Task | None:
        """Return a task by its id."""
        with self._lock:
            tasks = [*self._by_key.values()]
        return next((task for task in tasks if task.id == task_id), None)
