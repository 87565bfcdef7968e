"""What a backend gives to its contract, and what the tests of the contract share."""

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
    """Mark a test that means nothing to a store without these capabilities."""

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

    As ``parametrize``, for cases that do not need a store each: to make one costs many
    times what such a case does. A case that fails is reported by itself, and the others
    still run.

    Args:
        names: of the arguments; a tuple for several of them.
        cases: one value, or a tuple of as many values, for each run.
        collection: whose records are deleted after each case.
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

        # pytest takes the names of fixtures from the signature of what is wrapped.
        del test.__wrapped__
        return test

    return decorate


def label(value: object) -> str:
    """A value as part of a test's name: the same in every process, and short."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))[:200]


class Harness:
    """Override what stands here, and nothing else; a test that does not fit is a bug.

    An instance serves one test. Fixtures that your methods need are best taken by an
    autouse fixture of your class.
    """

    durable: ClassVar[bool] = False
    """What was committed is there after closing and :meth:`reopen`, and after a crash."""
    multi_process: ClassVar[bool] = False
    """Several processes may use the same data at once; needs :meth:`opener`."""
    has_role: ClassVar[bool] = True
    """It can be made primary, secondary and so on; a pair of stores cannot."""

    has_locks: ClassVar[bool] = False
    """It has :meth:`Store.lock <pend_storage.store.Store.lock>`."""

    def make_store(self, schema: Schema) -> Store:
        """A fresh, empty store of a schema. May be called several times in a test."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """Close a store and open its data again; needed where ``durable`` is set."""
        raise NotImplementedError(f"{type(self).__name__} is durable: write reopen()")

    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        """The fields of a stored record, read without the store; None if there is none.

        The last thing that a test does, so it may close the store. Asked only for
        ``tallies``, whose fields are ``name`` and ``value``.
        """
        raise NotImplementedError(f"{type(self).__name__} must write peek()")

    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        """A function and arguments with which another process opens the same data.

        The function must stand in a module, by name, and the arguments must pickle.
        Its schema is :data:`pend_storage.testing.domain.SCHEMA`. Needed where
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
        """A fresh, empty store of the harbour."""
        store = self.make_store(domain.SCHEMA)
        yield store
        store.close()

    @pytest.fixture
    def secondary(self, store: Store) -> Store:
        """The store of the test, as a secondary at epoch 1."""
        become(store, Role.SECONDARY, 1)
        return store

    @pytest.fixture
    def other(self) -> Iterator[Store]:
        """A second store of the harbour, fresh and independent of the first."""
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
    """Give a store a role."""
    state = RoleState(role, epoch).to_meta()
    assert store.compare_and_set_meta(ROLE_META, store.meta(ROLE_META), state)
