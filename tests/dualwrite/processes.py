"""Several processes on one pair of stores, which die, pause and lose their connections.

A process is a ``DualWriteStore`` of its own. Its lines to the two stores can be cut. What
it does can be made to die at a crash point, or to wait there while others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage import crashpoints
from pend_storage.backfill import backfill
from pend_storage.dualwrite import DualWriteStore
from pend_storage.dualwrite._roles import SIDES, Side
from pend_storage.errors import StoreUnavailable, UniqueViolation
from pend_storage.events import Event
from pend_storage.phases import Role
from pend_storage.records import Advance, Change, ChangedRecord
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import FaultyStore, InterceptingStore, Verb
from pend_storage.validation import validate

__all__ = [
    "Died",
    "Judging",
    "Line",
    "Place",
    "Process",
    "Task",
    "join",
    "living",
    "points",
    "wait_until",
]

T = TypeVar("T")
_PATIENCE = 30.0


class Died(BaseException):
    """The process is gone, in the middle of what it did."""


class Line(InterceptingStore):
    """One process's connection to a store, which others use as well."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.is_cut = False
        self.server: str | None = None
        """The server at the other end, where the store there does not report it."""
        self.before_next: dict[Verb, Callable[[], object]] = {}
        """What happens, once, before a call of a verb."""

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        # Removed before it runs: a hook that calls the store itself must not run again.
        happens = self.before_next.pop(verb, None)
        if happens is not None:
            happens()
        if self.is_cut:
            raise StoreUnavailable("the line is cut", store="the other end")
        return call()

    @override
    def head(self) -> int:
        return self.around("changes", self.inner.head)

    @override
    def incarnation(self) -> str:
        if self.is_cut:
            raise StoreUnavailable("the line is cut", store="the other end")
        return self.server or self.inner.incarnation()

    def lead_to(self, store: Store, server: str | None = None) -> None:
        """Exchange the server behind the address, without a visible outage."""
        self.inner, self.server = store, server

    @override
    def close(self) -> None:
        """The store goes on: others use it."""


class Judging(FaultyStore):
    """Secondary that checks uniqueness at the end of each call, as PostgreSQL does."""

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        # The state after the whole call: a value that moves between two ships is no fault.
        after = {row.key: row.record for row in self.inner.scan("ships")}
        for name, key, version, record in records:
            known = self.inner.read(name, [key], deleted=True).get(key)
            if name == "ships" and (known is None or known.version < version):
                after[key] = record
        signs = [ship.call_sign for ship in after.values() if ship and ship.call_sign]
        if len(signs) != len(set(signs)):
            raise UniqueViolation(collection="ships", fields=("call_sign",), key="?")
        return super().apply(records, epoch=epoch, mark=mark)


@dataclass
class Place:
    """Two stores on two machines."""

    json: MemoryStore = field(default_factory=lambda: MemoryStore(SCHEMA))
    postgres: MemoryStore = field(default_factory=lambda: MemoryStore(SCHEMA))
    _known: dict[tuple[Side, int], Change] = field(default_factory=dict)

    def of(self, side: Side) -> MemoryStore:
        return self.json if side == "json" else self.postgres

    def primaries(self) -> list[Side]:
        return [side for side in SIDES if self.of(side).role().role is Role.PRIMARY]

    def live(self) -> MemoryStore:
        """The store that answers, or that did before a switch began."""
        for role in (Role.PRIMARY, Role.FENCED):
            for side in SIDES:
                if self.of(side).role().role is role:
                    return self.of(side)
        raise AssertionError("no store is primary, and none was")

    def log(self) -> list[Change]:
        """Every commit that was ever seen here, pruned by now or not."""
        # Remembered here, because the stores prune what both sides have passed.
        for side in SIDES:
            store = self.of(side)
            for effect in store._log:
                self._known[side, effect.sequence] = store._state.change_of(effect)
        known = self._known.values()
        return sorted(known, key=lambda change: (change.epoch, change.sequence))


class Process:
    """One process; its store is made anew when it has died."""

    def __init__(self, place: Place, **settings: Any) -> None:
        self.place = place
        self.json, self.postgres = Line(place.json), Line(place.postgres)
        self.events: list[Event] = []
        self._settings = {
            "secondary_timeout": None,
            "relay_interval": None,
            "compare": 0.0,
            "switch_patience": 0.02,
            "backfill": backfill,
            "validate": validate,
            "hook": self.events.append,
            **settings,
        }
        self.store = self._make()

    def _make(self) -> DualWriteStore:
        return DualWriteStore(json=self.json, postgres=self.postgres, **self._settings)

    def line(self, side: Side) -> Line:
        return self.json if side == "json" else self.postgres

    def restart(self) -> None:
        """Replace it by another process."""
        self.store.close()
        # Opened over whole lines: to open a pair without its primary is another test.
        cut = {side: self.line(side).is_cut for side in SIDES}
        for side in SIDES:
            self.line(side).is_cut = False
        self.store = self._make()
        for side in SIDES:
            self.line(side).is_cut = cut[side]

    def put(self, key: str, text: str) -> int:
        return self.store.collection(Log).put(a_log(key, text))

    def get(self, key: str) -> str | None:
        log = self.store.collection(Log).get(key)
        return None if log is None else log.text


class Task:
    """Something a process does, in a thread of its own: it may stop on the way."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stopped_or_done = threading.Event()
        self._go_on = threading.Event()
        self._point: str | None = None
        self._dies = False
        self._skip = 0
        self.result: object = None
        self.error: BaseException | None = None
        self.is_done = False

    def start(
        self, point: str | None = None, *, dies: bool = False, skip: int = 0
    ) -> Task:
        """Run until the end, or to the point: to wait there, or to die.

        Returns once it has ended or stopped. The point is passed ``skip`` times before.
        """
        self._point, self._dies, self._skip = point, dies, skip
        with crashpoints.handled(self._pass):
            self._thread.start()
            assert self._stopped_or_done.wait(_PATIENCE), "the task hangs"
        return self

    def resume(self, until: str | None = None) -> None:
        """Go on from the point to the end, or to a later point."""
        self._point = until
        # Cleared first: the thread may reach its end before this one waits for it.
        self._stopped_or_done.clear()
        self._go_on.set()
        with crashpoints.handled(self._pass):
            assert self._stopped_or_done.wait(_PATIENCE), "the task hangs"

    @property
    def has_died(self) -> bool:
        return isinstance(self.error, Died)

    def _pass(self, name: str) -> None:
        # The handler is global: relays and other tasks pass the same points.
        if name != self._point or threading.current_thread() is not self._thread:
            return
        if self._skip:
            self._skip -= 1
            return
        self._point = None
        if self._dies:
            raise Died(name)
        self._go_on.clear()
        self._stopped_or_done.set()
        assert self._go_on.wait(_PATIENCE), "the task was not resumed"

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        self.is_done = True
        self._stopped_or_done.set()


def points(*prefixes: str) -> Sequence[str]:
    """The instants between two steps of some part of the protocol."""
    return [name for name in crashpoints.points() if name.startswith(prefixes)]


def wait_until(condition: Callable[[], object], timeout: float = _PATIENCE) -> None:
    """Wait until a condition holds; fail after the timeout."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {timeout:g} s"
        time.sleep(0.001)


def join(*threads: threading.Thread, timeout: float = _PATIENCE) -> None:
    """Wait until these threads have ended; fail after the timeout."""
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), f"{thread.name} did not end in {timeout:g} s"


def living(store: Store) -> dict[tuple[str, str], Any]:
    """Every record of a store."""
    return {
        (spec.name, row.key): row.record
        for spec in store.schema
        for row in store.scan(spec.name)
    }
