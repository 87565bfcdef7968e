"""Poller: one thread of a process looks at the environment, for every tab and every scrape.

It looks once a second while a page is open or a question came lately, and rests otherwise.
A look that hangs, because a server does, leaves the last one in place, with its age.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pend_storage._fork import on_fork
from pend_storage._health import Health
from pend_storage.errors import PendStorageError
from pend_storage.operations.status import EnvironmentStatus

__all__ = ["Look", "Poller"]

_INTERVAL: Final = 1.0
_IDLE_AFTER: Final = 15.0
"""Seconds without a listener and without a question, after which it rests."""
_FRESH: Final = 1.5
"""Age in seconds of a look that is good enough for a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at an environment."""

    number: int
    """Grows with each look of this process."""
    at: datetime
    """When it was done, UTC."""
    seconds: float
    """Time that it took."""
    status: EnvironmentStatus | None
    """None: it failed before any facts were known."""
    health: Health | None = None
    facts_at: datetime | None = None
    """Time of the status, where the look failed and the status is an earlier one."""
    up_since: Mapping[str, datetime] = field(default_factory=dict)
    """For each store that answers, since when it does, as far as this process knows."""
    heads: Mapping[str, int] = field(default_factory=dict)
    """End of the change log of each store that answers."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Commits per second in the change log of each of them, since the last look."""
    problem: str | None = None
    """Why the look failed; then the status is the one before."""


class Poller:
    """Poller of one environment. Safe to share between threads and event loops."""

    def __init__(
        self,
        look: Callable[[int, Look | None], Look],
        close: Callable[[], None],
        *,
        interval: float = _INTERVAL,
        idle_after: float = _IDLE_AFTER,
    ) -> None:
        """Make one; its thread begins with the first question.

        Args:
            look: looks, given the number of the look and the last one; called in the
                poller's thread only.
            close: closes what it looks with.
            interval: seconds between two looks.
            idle_after: seconds without a question after which it rests.
        """
        self._look = look
        self._close = close
        self._interval = interval
        self._idle_after = idle_after
        self._begin()
        on_fork(self._begin)

    def _begin(self) -> None:
        """Begin anew: in a forked child the thread of the parent is missing."""
        self._lock = threading.Condition()
        self._latest: Look | None = None
        self._asked_at = time.monotonic()
        self._listeners: dict[int, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._count = 0
        self._wanted_after = 0
        self.looks = 0

    # -- the thread -----------------------------------------------------------------------

    def _ensure_thread(self) -> None:
        """Start the thread, where there is none; the lock is held."""
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(
                target=self._run, name="pend-console", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._publish(self._looked())
                with self._lock:
                    self._lock.wait_for(self._is_urgent, self._interval)
                    self._wanted_after = 0
        finally:
            self._close()

    def _wait_for_work(self) -> bool:
        """Rest until there is a listener or a question; return False at the end."""
        with self._lock:
            self._lock.wait_for(lambda: self._is_closed or self._is_wanted())
            return not self._is_closed

    def _is_urgent(self) -> bool:
        """Return whether the next look is not to wait for its time; the lock is held."""
        known = 0 if self._latest is None else self._latest.number
        return self._is_closed or self._wanted_after >= known > 0

    def _is_wanted(self) -> bool:
        return bool(self._listeners) or (
            time.monotonic() - self._asked_at < self._idle_after
        )

    def _looked(self) -> Look:
        began, last = time.monotonic(), self._latest
        self.looks += 1
        try:
            return self._look(self.looks, last)
        except PendStorageError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - the page shows it, and looks again
            problem = f"the look failed ({type(error).__name__}): see the log"
        return Look(
            number=self.looks,
            at=datetime.now(UTC),
            seconds=time.monotonic() - began,
            status=None if last is None else last.status,
            facts_at=None if last is None else last.facts_at or last.at,
            problem=problem,
        )

    def _publish(self, look: Look) -> None:
        with self._lock:
            self._latest = look
            self._lock.notify_all()
            listeners = [*self._listeners.values()]
        for tell in listeners:
            tell()

    # -- questions ------------------------------------------------------------------------

    @property
    def latest(self) -> Look | None:
        """The last look, of whatever age; None before the first one."""
        with self._lock:
            return self._latest

    def ask(self, *, newer_than: int = 0, patience: float = 5.0) -> Look | None:
        """Return a fresh look, and wait for it; the last one where none comes in time.

        Args:
            newer_than: number of a look; only a later one counts.
            patience: seconds to wait.
        """
        with self._lock:
            self._asked_at = time.monotonic()
            self._wanted_after = max(self._wanted_after, newer_than)
            self._ensure_thread()
            self._lock.notify_all()
            self._lock.wait_for(lambda: self._is_fresh(newer_than), patience)
            return self._latest

    def _is_fresh(self, newer_than: int) -> bool:
        found = self._latest
        if self._is_closed:
            return True
        if found is None or found.number <= newer_than:
            return False
        return (datetime.now(UTC) - found.at).total_seconds() < _FRESH

    @contextmanager
    def _listening(self, tell: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._count += 1
            number = self._count
            self._listeners[number] = tell
            self._ensure_thread()
            self._lock.notify_all()
        try:
            yield
        finally:
            with self._lock:
                self._listeners.pop(number, None)
                self._asked_at = time.monotonic()

    async def follow(self, *, patience: float) -> AsyncIterator[Look]:
        """Yield the last look, and each later one; a slow reader misses those in between.

        Args:
            patience: seconds after which the last look is yielded again, although no new
                one came: its age has changed.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            # The loop may have ended, with its reader.
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        with self._listening(tell):
            while not self._is_closed:
                changed.clear()
                found = self.latest
                if found is not None:
                    yield found
                try:
                    await asyncio.wait_for(changed.wait(), patience)
                except TimeoutError:
                    continue

    @property
    def listeners(self) -> int:
        """Number of those that follow."""
        with self._lock:
            return len(self._listeners)

    def close(self) -> None:
        """End the thread, which closes what it looks with; a look that hangs is left."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
            thread, listeners = self._thread, [*self._listeners.values()]
        for tell in listeners:
            tell()
        if thread is None:
            self._close()
        else:
            thread.join(self._interval + 1)
