"""Canary reads: reads of a sticky share of the keys are answered by the secondary.

Both stores are asked, the primary first. The secondary's row is the answer only where it has
the version and the value of the primary's, so the caller gets what it would have got; what
is tried out is the store, its latency and its decoding, under the real reads. Any
difference, failure or delay leaves the primary's answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from pend_storage._model.knobs import CANARY, Setting
from pend_storage._model.records import Row
from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._circuit_breaker import CircuitBreaker
from pend_storage.dualwrite._live_knobs import LiveKnobs
from pend_storage.dualwrite._router import Router
from pend_storage.dualwrite._secondary_readers import SecondaryReaders
from pend_storage.errors import PendStorageError
from pend_storage.events import Event, Hook
from pend_storage.schema import FINDINGS
from pend_storage.store import Store

__all__ = ["Canary", "CanaryReads", "is_sticky"]

_LONGEST_WAIT: Final = 0.25
"""Seconds that a read waits for the secondary at most."""
_SUSPENDED: Final = 30.0
"""Seconds without canary reads in this process after the secondary was late or failed."""
_WINDOW: Final = 200
"""Latest reads by whose latency the stores are compared."""
_ENOUGH: Final = 100
_JUDGE_EVERY: Final = 50
_TIMES: Final = 2.0
"""The secondary may take so many times as long as the primary, at the 95th percentile."""
_UNNOTICED: Final = 0.01
"""Seconds: a secondary that is quicker than this is quick enough, whatever the primary is.
JSON answers from memory in microseconds, which no server on a network does."""
_ATTEMPTS: Final = 60
_RETRY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Canary:
    """Counters of the canary reads of this process, and the latency of both stores."""

    share: float = 0.0
    """Present share of the keys."""
    asked: int = 0
    """Reads in which both stores were asked."""
    answered: int = 0
    """Records that the secondary has answered with."""
    behind: int = 0
    """Records that had another version there, or none: a commit on its way."""
    differing: int = 0
    """Records that had the same version there, and another value."""
    failed: int = 0
    """Reads in which the secondary was late, or raised an error."""
    suspended: int = 0
    """Reads without the secondary: it is out of reach, or was late a moment ago."""
    primary_p50: float = 0.0
    """Seconds, as the next ones; of the latest reads."""
    primary_p95: float = 0.0
    secondary_p50: float = 0.0
    secondary_p95: float = 0.0


def is_sticky(share: float, collection: str, key: str) -> bool:
    """Return whether a key belongs to a share of the keys of its collection.

    It depends on the key alone, so it is the same in every process and at each call, and a
    key that belongs to a share belongs to each greater one.
    """
    # A key may be looked for that no record can have, such as one with a lone surrogate.
    name = f"{collection}\0{key}".encode("utf-8", "surrogatepass")
    digest = blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class CanaryReads:
    """Canary reads of a pair. Safe to share between threads."""

    def __init__(
        self,
        router: Router,
        breaker: CircuitBreaker,
        knobs: LiveKnobs,
        hook: Hook,
        *,
        check: Callable[[str, Sequence[str]], None],
    ) -> None:
        """Make it; it is off until a share is set.

        Args:
            router: calls the primary, and knows the secondary.
            breaker: closed while the secondary is considered healthy.
            knobs: of the pair; the knob is set to 0 where the reads are turned off.
            hook: gets an event when they are turned off.
            check: gets a collection and keys whose values differ.
        """
        self.share = 0.0
        """Share of the keys; 0: a read of the pair makes no further call."""
        self._router = router
        self._breaker = breaker
        self._knobs = knobs
        self._hook = hook
        self._check = check
        self._setting: Setting | None = None
        self._tripped = False
        self._names = (
            "asked",
            "answered",
            "behind",
            "differing",
            "failed",
            "suspended",
        )
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child: it has none of its parent's threads."""
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(self._names, 0)
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._resume_at = 0.0
        self._readers = SecondaryReaders()

    def follow(self, configured: float, setting: Setting | None) -> None:
        """Follow the knob, or else the configuration.

        A setting that this process has turned the reads off at does not turn them on again.
        """
        if self._tripped and setting == self._setting:
            return
        self._setting, self._tripped = setting, False
        value = None if setting is None else setting.value
        self.share = configured if value is None else value

    def stop(self, timeout: float) -> None:
        """End the threads."""
        self._readers.stop(timeout)

    # -- reading ------------------------------------------------------------------------

    def read(
        self,
        collection: str,
        keys: Sequence[str],
        ask: Callable[[Store, int | None], dict[str, Row]],
    ) -> dict[str, Row]:
        """Read from the primary, and answer from the secondary where both agree.

        Args:
            collection: that is read.
            keys: all that are read.
            ask: reads them from the primary at an epoch.

        Raises: what the primary raises, and nothing else.
        """
        share = self.share
        chosen = [key for key in keys if is_sticky(share, collection, key)]
        if not chosen or collection == FINDINGS:
            return self._router.call_reading(ask)
        started = time.perf_counter()
        rows = self._router.call_reading(ask)
        primary = time.perf_counter() - started
        found = self._ask_secondary(collection, chosen, primary)
        return rows if found is None else self._merged(collection, chosen, rows, found)

    def _ask_secondary(
        self, collection: str, chosen: Sequence[str], primary: float
    ) -> dict[str, Row] | None:
        route = self._router.known_route
        follower = None if route is None else route.follower
        if (
            follower is None
            or not self._breaker.is_closed
            or time.monotonic() < self._resume_at
        ):
            self._count(suspended=1)
            return None
        started = time.perf_counter()
        found = self._readers.read(follower, collection, chosen, _LONGEST_WAIT)
        taken = time.perf_counter() - started
        if found is None:
            self._resume_at = time.monotonic() + _SUSPENDED
        self._count(asked=1, failed=int(found is None))
        self._judge(primary, taken)
        return found

    def _merged(
        self,
        collection: str,
        chosen: Sequence[str],
        rows: dict[str, Row],
        found: dict[str, Row],
    ) -> dict[str, Row]:
        merged, answered, behind = {**rows}, 0, 0
        differing = []
        for key in chosen:
            mine, theirs = rows.get(key), found.get(key)
            if mine is None and theirs is None:
                continue
            if mine is None or theirs is None or mine.version != theirs.version:
                behind += 1
            elif bool(mine.record == theirs.record):
                merged[key] = theirs
                answered += 1
            else:
                differing.append(key)
        self._count(answered=answered, behind=behind, differing=len(differing))
        if differing:
            self._check(collection, differing)
        return merged

    # -- counting -----------------------------------------------------------------------

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    def report(self) -> Canary:
        """Return the counters so far, and the latency of the latest reads."""
        with self._lock:
            counts, seen = {**self._counts}, [*self._latencies]
        primary, secondary = sorted(a for a, _ in seen), sorted(b for _, b in seen)
        return Canary(
            share=self.share,
            **counts,
            primary_p50=_percentile(primary, 0.5),
            primary_p95=_percentile(primary, 0.95),
            secondary_p50=_percentile(secondary, 0.5),
            secondary_p95=_percentile(secondary, 0.95),
        )

    # -- turning off --------------------------------------------------------------------

    def _judge(self, primary: float, secondary: float) -> None:
        """Record the latency of both stores, and turn off a slow secondary."""
        with self._lock:
            self._latencies.append((primary, secondary))
            asked, known = self._counts["asked"], len(self._latencies)
        if known < _ENOUGH or asked % _JUDGE_EVERY:
            return
        now = self.report()
        if now.secondary_p95 > max(_TIMES * now.primary_p95, _UNNOTICED):
            self.turn_off(
                f"the secondary takes {1000 * now.secondary_p95:.1f} ms at the 95th "
                f"percentile, and the primary {1000 * now.primary_p95:.1f} ms"
            )

    def turn_off(self, reason: str) -> None:
        """Turn the reads off, in this process at once, and in all by the knob.

        Args:
            reason: a clause, for the event and the knob.
        """
        with self._lock:
            if not self.share:
                return
            self.share, self._tripped = 0.0, True
        self._hook(
            Event(
                "canary-off",
                f"canary reads are turned off: {reason}. Once that is mended: "
                "pend-storage tune dual_write.canary SHARE",
                logging.WARNING,
                fields={"reason": reason},
            )
        )
        # Not in the thread of a caller, whose read must not wait for a write.
        start_thread(lambda: self._record(reason), "pend-canary-off")

    def _record(self, reason: str) -> None:
        for _ in range(_ATTEMPTS):
            if self._router.is_closed:
                return
            try:
                self._knobs.set(CANARY, 0.0, by="canary reads", reason=reason)
            except PendStorageError:
                time.sleep(_RETRY)
            else:
                return


def _percentile(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
