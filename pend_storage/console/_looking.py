"""Looking: the facts of an environment for the console, read in a way that changes nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from pend_storage.config import Settings
from pend_storage.console._poller import Look
from pend_storage.errors import PendStorageError
from pend_storage.factory import PassiveEnvironment, open_passive
from pend_storage.operations.health import Health, HealthProbe
from pend_storage.operations.status import StatusProbe
from pend_storage.store import Store

__all__ = ["Looking", "Reading"]

_IDLE: Final = 60.0
"""Seconds without a question after which the readers of the screens are closed."""


class Looking:
    """Looks of the poller: the status, the health, and the ends of the change logs."""

    def __init__(self, settings: Settings) -> None:
        """Args: settings: of the environment."""
        self._settings = settings
        self._probe: StatusProbe | None = None
        self.health = HealthProbe(settings)

    def __call__(self, number: int, last: Look | None) -> Look:
        """Look once."""
        began = time.monotonic()
        health = self.health.health()
        if self._probe is None:
            self._probe = StatusProbe(self._settings)
        status = self._probe.status()
        now = datetime.now(UTC)
        before = {} if last is None else last.up_since
        up = [check.name for check in health.checks if check.ok]
        heads, rates = self._measure(health, last, now)
        return Look(
            number=number,
            at=now,
            up_since={name: before.get(name, now) for name in up},
            seconds=time.monotonic() - began,
            status=status,
            health=health,
            heads=heads,
            rates=rates,
        )

    def _measure(
        self, health: Health, last: Look | None, now: datetime
    ) -> tuple[dict[str, int], dict[str, float]]:
        """Return the end of each store's change log, and the commits per second in it."""
        passive = self.health.passive
        answering = {check.name for check in health.checks if check.ok}
        heads: dict[str, int] = {}
        rates: dict[str, float] = {}
        passed = 0.0 if last is None else (now - last.at).total_seconds()
        for side, store in ({} if passive is None else passive.stores).items():
            if not answering & {side, "store"}:
                continue
            with contextlib.suppress(PendStorageError):
                heads[side] = store.head()
                before = None if last is None else last.heads.get(side)
                if before is not None and passed > 0:
                    rates[side] = store.pending(before).commits / passed
        return heads, rates

    def close(self) -> None:
        """Close the stores."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.health.close)
            if self._probe is not None:
                stack.callback(self._probe.close)


class Reading:
    """Readers of the screens: opened by the first question, closed when none comes.

    One question at a time: the screens are for a few people, and the servers of the
    environment come first.
    """

    def __init__(self, settings: Settings) -> None:
        """Args: settings: of the environment."""
        self.settings = settings
        self._lock = threading.Lock()
        self._opened: contextlib.ExitStack | None = None
        self._passive: PassiveEnvironment | None = None
        self._used = 0.0
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def environment(self) -> Iterator[PassiveEnvironment]:
        """Give the stores of the environment, as they are now, to one caller.

        Raises:
            ConfigError: they must not be opened by this process.
        """
        with self._lock:
            if self._passive is None:
                opened = contextlib.ExitStack()
                self._passive = opened.enter_context(open_passive(self.settings))
                self._opened = opened
            else:
                self._passive.refresh()
            try:
                yield self._passive
            finally:
                self._used = time.monotonic()
                self._expire_later(_IDLE)

    @contextlib.contextmanager
    def primary(self) -> Iterator[Store]:
        """Give the store with the truth to one caller; it can only be read.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        with self.environment() as passive:
            yield passive.primary()

    def _expire_later(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._expire)
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        with self._lock:
            self._timer = None
            left = _IDLE - (time.monotonic() - self._used)
            if self._passive is not None and left > 0:
                self._expire_later(left + 1)
                return
            self._close()

    def _close(self) -> None:
        opened, self._opened, self._passive = self._opened, None, None
        if opened is not None:
            opened.close()

    def close(self) -> None:
        """Close the stores."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._close()
