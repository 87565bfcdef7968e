"""Named locks of a pair: the locks of both stores, JSON first.

The JSON store's lock is taken in every phase. It costs next to nothing, and it is the one
that all processes on the directory have in common before, during and after any switch. The
database's lock is taken as well while PostgreSQL is attached: machines that share nothing
else meet there. While it only follows and cannot be reached, JSON's lock is enough, because
every process that writes has the directory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.dualwrite._circuit_breaker import CircuitBreaker
from pend_storage.dualwrite._route import Route
from pend_storage.dualwrite._router import Router
from pend_storage.errors import CorruptFile, SchemaOutOfDate, StoreUnavailable

__all__ = ["lock_both"]

_OUT_OF_REACH: Final = (StoreUnavailable, SchemaOutOfDate, CorruptFile)


@contextmanager
def lock_both(
    router: Router, breaker: CircuitBreaker, name: str, timeout: float
) -> Iterator[IsHeld]:
    """Hold the lock of a name; see :meth:`pend_storage.store.Store.lock`.

    Args:
        router: knows both stores and their roles.
        breaker: closed while the secondary is worth calling.
        name: of the lock.
        timeout: seconds to wait for other holders.

    Raises:
        LockTimeout: another holder had it for so long.
        StoreUnavailable: a store whose lock is needed cannot be reached.
    """
    deadline = time.monotonic() + timeout
    held: list[IsHeld] = []
    with ExitStack() as stack:
        route = router.route
        with _forgiving(needed=_is_needed(route, "json")):
            held.append(stack.enter_context(router.pair.json.lock(name, timeout)))
        route = router.current()  # nothing that others do under the lock can change it
        if route.side == "postgres" or (route.follower and breaker.is_closed):
            left = max(deadline - time.monotonic(), 0.0)
            with _forgiving(needed=_is_needed(route, "postgres")):
                held.append(stack.enter_context(router.pair.postgres.lock(name, left)))
        yield lambda: all(is_held() for is_held in held)


def _is_needed(route: Route, side: str) -> bool:
    """Return whether other holders cannot be excluded without the lock of this store."""
    return route.side == side


@contextmanager
def _forgiving(*, needed: bool) -> Iterator[None]:
    """Suppress errors of a store that is out of reach, unless its lock is needed."""
    with contextlib.nullcontext() if needed else contextlib.suppress(*_OUT_OF_REACH):
        yield
