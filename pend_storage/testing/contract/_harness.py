"""Harness of the contract: methods that a backend overrides, fixtures, helpers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import pytest

from pend_storage._collection import Collection
from pend_storage._model.records import Batch, Delete, Put
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.testing import domain

__all__ = ["Harness", "become", "commit", "each_case", "label", "requires"]

TestFunction = TypeVar("TestFunction", bound=Callable[..., None])


def requires(*capabilities: str) -> Callable[[TestFunction], TestFunction]:
    """Mark a test that applies only to stores with these capabilities."""

    def mark(function: TestFunction) -> TestFunction:
        function.capabilities = capabilities  # type: ignore[attr-defined]
        return function

    return mark


def each_case(
    names: str | tuple[str, ...],
    cases: Sequence[Any],
    *,
    collection: type = domain.Ship,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test once for each case, as subtests on one store.

    Like ``parametrize``, for cases that can share a store: creating one takes many
    times as long as such a case. A failed case is reported on its own, and the others
    still run.

    Args:
        names: name of the argument, or a tuple of several names.
        cases: one value, or a tuple of as many values, for each run.
        collection: record type of the collection that is emptied after each case.
    """
    arguments = (names,) if isinstance(names, str) else names

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def test(self: Harness, store: Store, subtests: pytest.Subtests) -> None:
            records: Collection[Any] = store.collection(collection)
            key = store.schema[collection].key_of
            for case in cases:
                values = (case,) if isinstance(names, str) else case
                with subtests.test(" ".join(map(label, values))):
                    function(self, store, **dict(zip(arguments, values, strict=True)))
                for record in list(records.scan()):
                    records.delete(key(record))

        # pytest takes fixture names from the signature of the wrapped function.
        del test.__wrapped__
        return test

    return decorate


def label(value: object) -> str:
    """Format a value as part of a test's name: short, and the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))[:200]


class Harness:
    """Methods and capabilities that a backend overrides; override nothing else.

    A contract test that a backend cannot pass is a bug of one of them. An instance
    serves one test. Fixtures that your methods need are best requested by an autouse
    fixture of your class.
    """

    durable: ClassVar[bool] = False
    """Commits survive closing and :meth:`reopen`, and a crash."""
    multi_process: ClassVar[bool] = False
    """Several processes may use the same data at once; needs :meth:`opener`."""
    has_role: ClassVar[bool] = True
    """The store can be made primary, secondary and so on; a pair of stores cannot."""

    has_locks: ClassVar[bool] = False
    """The store has :meth:`Store.lock <pend_storage.store.Store.lock>`."""

    can_purge: ClassVar[bool] = False
    """The store has :meth:`Store.purge <pend_storage.store.Store.purge>`."""

    can_snapshot: ClassVar[bool] = False
    """:meth:`Store.snapshot <pend_storage.store.Store.snapshot>` has every named value:
    the store overrides it."""

    can_load: ClassVar[bool] = True
    """The store can be filled from a backup; a pair cannot."""

    can_reserve: ClassVar[bool] = False
    """The store has :meth:`Store.reserve_numbers
    <pend_storage.store.Store.reserve_numbers>`."""

    def make_store(self, schema: Schema) -> Store:
        """Return a new, empty store of a schema. A test may call it several times."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """Close a store and open its data again; required if ``durable`` is set."""
        raise NotImplementedError(f"{type(self).__name__} is durable: write reopen()")

    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        """Return the fields of a stored record, read without the store, or None.

        Called last in a test, so it may close the store. Called only for ``tallies``,
        whose fields are ``name`` and ``value``.
        """
        raise NotImplementedError(f"{type(self).__name__} must write peek()")

    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        """Return a function and arguments that open the same data in another process.

        The function must be importable by name from a module, and the arguments must
        pickle. Its schema is :data:`pend_storage.testing.domain.SCHEMA`. Required if
        ``multi_process`` is set.
        """
        raise NotImplementedError(f"{type(self).__name__} must write opener()")

    @pytest.fixture(autouse=True)
    def _has_what_the_test_requires(self, request: pytest.FixtureRequest) -> None:
        for capability in getattr(request.function, "capabilities", ()):
            if not getattr(self, capability):
                pytest.skip(f"{type(self).__name__}.{capability} is False")

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """New, empty store of the harbour schema."""
        store = self.make_store(domain.SCHEMA)
        yield store
        store.close()

    @pytest.fixture
    def secondary(self, store: Store) -> Store:
        """The test's store, as a secondary at epoch 1."""
        become(store, Role.SECONDARY, 1)
        return store

    @pytest.fixture
    def other(self) -> Iterator[Store]:
        """Second store of the harbour schema, independent of the first."""
        store = self.make_store(domain.SCHEMA)
        yield store
        store.close()


def commit(
    store: Store,
    *records: Any,
    delete: Iterable[tuple[str, str]] = (),
    checks: dict[tuple[str, str], int] | None = None,
    epoch: int | None = None,
) -> tuple[int, ...]:
    """Commit records of any collections, and deletes, in one batch."""
    schema = store.schema
    operations: list[Put | Delete] = [schema.put(type(r), r) for r in records]
    operations += [schema.delete(*place) for place in delete]
    batch: Batch = schema.batch(operations, checks)
    return store.commit(batch, epoch=epoch)


def become(store: Store, role: Role, epoch: int) -> None:
    """Set the role of a store."""
    state = RoleState(role, epoch).to_meta()
    assert store.compare_and_set_meta(ROLE_META, store.meta(ROLE_META), state)
