"""No exception of a signal handler costs the pool a connection."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from pend_storage.errors import StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally
from pend_storage.testing.interrupts import interrupted_at

from .activity import UNDER_TEST, sessions, wait_until

MODULES = tuple(
    f"stores/postgres/{name}.py"
    for name in (
        "_connection/pool",
        "_client/database_client",
        "_connection/connection",
        "_connection/server_messages",
        "_client/connection_probe",
        "_client/failover_detector",
        "_connection/connector",
    )
)


class Interrupt(BaseException):
    """Raised by a signal handler, as KeyboardInterrupt is."""


@contextmanager
def interrupts() -> Iterator[None]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def hit_at(line: int, call: Callable[[], object]) -> bool:
    """Return True if a signal came before the so-many-th line of the connection modules."""
    return interrupted_at(
        line,
        call,
        modules=MODULES,
        signal_number=signal.SIGUSR1,
        raised=Interrupt,
    )


# An interrupt may also come while Python removes what an interrupt has lost.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("state", ["first call", "later call", "after a cut"])
def test_an_interrupt_anywhere_costs_no_connection(
    state: str, new_migrated_database: Callable[[Schema], str]
) -> None:
    url = new_migrated_database(SCHEMA)
    with (
        interrupts(),
        PostgresStore(
            SCHEMA, url, pool_size=1, pool_timeout=2.0, application_name=UNDER_TEST
        ) as store,
    ):
        tallies = store.collection(Tally)
        line, step = 0, 1 if state == "later call" else 2  # connecting takes its time
        while True:
            line += step
            if state == "first call":
                store._client.invalidate()
            else:
                tallies.get("a")
            if state == "after a cut":
                store._client._pool._idle[0].driver_connection.close()
            if not hit_at(line, lambda: tallies.get("a")):
                break
            try:
                assert tallies.get("a") is None
            except StoreUnavailable as error:
                pytest.fail(f"after an interrupt at line {line}: {error}")

        assert line > 20
        wait_until(lambda: len(sessions(url)) <= 1, "the end of lost connections")
