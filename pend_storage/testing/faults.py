"""Fault injection: store wrappers that fail, or wait, on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

from typing_extensions import override

from pend_storage._model.records import JSON, Advance, Batch, Change, ChangedRecord, Row
from pend_storage.errors import StoreUnavailable
from pend_storage.query import Condition, Query
from pend_storage.store import Store
from pend_storage.stores.wrapper import WrapperStore

__all__ = ["FaultyStore", "Gate", "InterceptingStore", "SlowStore", "Verb"]

T = TypeVar("T")
Verb: TypeAlias = Literal[
    "read",
    "query",
    "count",
    "scan",
    "commit",
    "apply",
    "changes",
    "meta",
    "compare_and_set_meta",
]
"""Verbs of the contract that can be made to fail."""
_WRITES: Final = frozenset({"commit", "apply", "compare_and_set_meta"})


class InterceptingStore(WrapperStore):
    """Wrapper that passes every call through :meth:`around`; override that."""

    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        """Make the call, or replace it. ``scan`` and ``changes`` arrive as lists.

        Args:
            verb: name of the called method.
            call: makes the call on the inner store.
        """
        raise NotImplementedError

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        inner = self.inner
        return self.around(
            "read", lambda: inner.read(collection, keys, deleted=deleted, epoch=epoch)
        )

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        return self.around(
            "query", lambda: self.inner.query(collection, query, epoch=epoch)
        )

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return self.around(
            "count", lambda: self.inner.count(collection, where, epoch=epoch)
        )

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        inner = self.inner
        yield from self.around(
            "scan",
            lambda: list(
                inner.scan(collection, after=after, deleted=deleted, epoch=epoch)
            ),
        )

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return self.around("commit", lambda: self.inner.commit(batch, epoch=epoch))

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        return self.around(
            "apply", lambda: self.inner.apply(records, epoch=epoch, mark=mark)
        )

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        inner = self.inner
        yield from self.around("changes", lambda: list(inner.changes(after)))

    @override
    def meta(self, name: str) -> JSON:
        return self.around("meta", lambda: self.inner.meta(name))

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        return self.around(
            "compare_and_set_meta",
            lambda: self.inner.compare_and_set_meta(name, expected, value, given=given),
        )


@dataclass(slots=True)
class _Fault:
    after: bool
    skip: int
    times: int | None
    error: BaseException | None


class FaultyStore(InterceptingStore):
    """Wrapper that fails scheduled calls, before or after the inner call.

    .. code-block:: python

        store = FaultyStore(MemoryStore(schema))
        store.fail("commit", after=True, skip=2)   # the third one happens, and fails
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._faults: dict[str, list[_Fault]] = {}
        self._lock = threading.Lock()
        self.calls: dict[str, int] = {}
        """Number of calls by verb."""

    def fail(
        self,
        *verbs: Verb,
        after: bool = False,
        skip: int = 0,
        times: int | None = 1,
        error: BaseException | None = None,
    ) -> None:
        """Schedule faults.

        Args:
            verbs: methods that fail.
            after: make the inner call first: the write happens, and its answer is lost.
            skip: number of calls that succeed before.
            times: number of calls that fail; None for all, until :meth:`heal`.
            error: exception to raise; ``StoreUnavailable`` by default.
        """
        with self._lock:
            for verb in verbs:
                fault = _Fault(after, skip, times, error)
                self._faults.setdefault(verb, []).append(fault)

    def heal(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        with self._lock:
            self.calls[verb] = self.calls.get(verb, 0) + 1
            # Counted under the lock, so that concurrent calls skip the right number.
            fault = self._due(verb)
        if fault is None:
            return call()
        if fault.after:
            call()
        if fault.error is not None:
            raise fault.error
        # Only a lost answer to a write leaves its outcome unknown.
        lost = fault.after and verb in _WRITES
        raise StoreUnavailable(
            f"scheduled fault at {verb}", store="faulty", outcome_known=not lost
        )

    def _due(self, verb: str) -> _Fault | None:
        for fault in self._faults.get(verb, ()):
            if fault.skip:
                fault.skip -= 1
            elif fault.times is None:
                return fault
            elif fault.times:
                fault.times -= 1
                return fault
        return None


class Gate:
    """Gate that blocks calls until it is opened."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def wait_until_reached(self, timeout: float = 30.0) -> None:
        """Wait until a call is blocked by the gate.

        Raises:
            AssertionError: no call arrived within the timeout, in seconds.
        """
        assert self._reached.wait(timeout), f"no call reached the gate in {timeout:g} s"

    def open(self) -> None:
        """Let all calls pass, now and later."""
        self._open.set()

    def pass_through(self, timeout: float = 300.0) -> None:
        """Block until the gate is open.

        Raises:
            AssertionError: the gate was not opened within the timeout, in seconds.
        """
        self._reached.set()
        assert self._open.wait(timeout), f"the gate was not opened in {timeout:g} s"


class SlowStore(InterceptingStore):
    """Wrapper that delays calls: by a fixed time, or until a test opens a gate.

    Args:
        inner: store that does the work.
        delays: seconds to sleep before each call, by verb.
    """

    def __init__(
        self, inner: Store, delays: Mapping[Verb, float] | None = None
    ) -> None:
        super().__init__(inner)
        self._delays = dict(delays or {})
        self._gates: dict[str, Gate] = {}

    @contextmanager
    def holding(self, *verbs: Verb) -> Iterator[Gate]:
        """Block calls of these verbs until the gate opens, or the block ends."""
        gate = Gate()
        self._gates.update(dict.fromkeys(verbs, gate))
        try:
            yield gate
        finally:
            for verb in verbs:
                # Removed first: later calls find no gate.
                self._gates.pop(verb, None)
            gate.open()

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        gate = self._gates.get(verb)
        if gate is not None:
            gate.pass_through()
        delay = self._delays.get(verb, 0.0)
        if delay:
            time.sleep(delay)
        return call()
