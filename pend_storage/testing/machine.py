"""State machine that drives a store and a ``MemoryStore``, and compares every answer.

Any difference is a fault of one of them. Answers, errors and their attributes must
agree; versions may be different numbers, but must grow per key and mean the same.

.. code-block:: python

    TestMyStore = machine_for(lambda schema: MyStore(schema, ...))

or, where the store needs fixtures, inside a test::

    run_machine(make_store, schema=SCHEMA, reopen=lambda store: ...)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from unittest import TestCase

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from typing_extensions import override

from pend_storage._model.records import Delete, Put
from pend_storage.phases import Role, RoleState
from pend_storage.query import Condition
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import domain
from pend_storage.testing import inputs as draw
from pend_storage.testing.agreement import Age, Pair, Place, Side
from pend_storage.testing.log_rules import LogRules

__all__ = ["StoreMachine", "machine_for", "run_machine"]


class StoreMachine(LogRules):
    """State machine of one schema and one backend, made by :func:`machine_for`."""

    schema: ClassVar[Schema] = domain.SCHEMA
    inputs: ClassVar[dict[str, Any]]

    def make_store(self) -> Store:
        """Return a new, empty store of the schema."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """Close a store and open its data again; the default keeps it open."""
        return store

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.inputs = draw.machine_inputs(cls.schema)

    def __init__(self) -> None:
        super().__init__()
        self.pair: Pair = Pair(Side(self.make_store()), Side(MemoryStore(self.schema)))
        self.followers: Pair = Pair(
            Side(self.make_store()), Side(MemoryStore(self.schema))
        )
        self.followers.set_role(RoleState(Role.SECONDARY, 1))

    @override
    def teardown(self) -> None:
        try:
            self.everything_is_equal()
        finally:
            self.pair.close()
            self.followers.close()
            super().teardown()

    # -- writing ----------------------------------------------------------------------

    @rule(put=draw.own("record"), age=draw.AGES)
    def put(self, put: tuple[str, Any], age: Age) -> None:
        """Put a record, unconditionally or at a version."""
        name, record = put
        place = (name, self.schema[name].key_of(record))

        def put_it(side: Side) -> bool:
            wanted = side.version(place, age)
            return side.store.collection(name).put(record, if_version=wanted) > 0

        self.pair.write([place], put_it)

    @rule(spoiled=draw.own("spoiled"))
    def put_what_breaks_the_schema(self, spoiled: tuple[str, Any]) -> None:
        """Put an invalid record: it is refused, and the error names the same field."""
        name, record = spoiled
        self.pair.agree(lambda side: side.store.collection(name).put(record))

    @rule(place=draw.PLACE, age=draw.AGES)
    def delete(self, place: Place, age: Age) -> None:
        """Delete a key, unconditionally or at a version."""
        name, key = place
        self.pair.write(
            [place],
            lambda side: side.store.collection(name).delete(
                key, if_version=side.version(place, age)
            ),
        )

    @rule(puts=draw.own("records"))
    def put_many(self, puts: tuple[str, list[Any]]) -> None:
        """Put several records of one collection in one commit."""
        name, records = puts
        places = [(name, self.schema[name].key_of(record)) for record in records]
        self.pair.write(
            places, lambda side: len(side.store.collection(name).put_many(records))
        )

    @rule(
        puts=st.lists(draw.own("record"), max_size=4),
        deletes=st.lists(draw.PLACE, max_size=3),
        checks=st.lists(draw.CHECK, max_size=3),
        epoch=draw.EPOCHS,
    )
    def commit(
        self,
        puts: list[tuple[str, Any]],
        deletes: list[Place],
        checks: list[tuple[Place, Age]],
        epoch: int | None,
    ) -> None:
        """Commit puts, deletes and checks of any collections in one batch."""
        operations: list[Put | Delete] = [self.schema.delete(*d) for d in deletes]
        operations += [self.schema.put(*put) for put in puts]
        self.pair.write(
            [(o.collection, o.key) for o in operations],
            lambda side: side.commit(
                self.schema.batch(operations, side.checks(checks)), epoch
            ),
        )

    @rule(
        parts=st.lists(
            st.tuples(
                st.lists(draw.own("record"), max_size=2),
                st.lists(draw.PLACE, max_size=1),
                st.lists(draw.CHECK, max_size=1),
            ),
            min_size=1,
            max_size=6,
        ),
        epoch=draw.EPOCHS,
        again=st.booleans(),
    )
    def commit_each(
        self,
        parts: list[tuple[list[tuple[str, Any]], list[Place], list[tuple[Place, Age]]]],
        epoch: int | None,
        *,
        again: bool,
    ) -> None:
        """Make several commits in one call; checks use versions from before the first.

        The first batch may occur once more at the end, and is executed once.
        """
        operations: list[list[Put | Delete]] = [
            [*(self.schema.delete(*d) for d in ds), *(self.schema.put(*p) for p in ps)]
            for ps, ds, _ in parts
        ]

        def commit(side: Side) -> list[Any]:
            batches = [
                self.schema.batch(ops, side.checks(checks))
                for ops, (_, _, checks) in zip(operations, parts, strict=True)
            ]
            return side.commit_each([*batches, *batches[: int(again)]], epoch)

        self.pair.write(
            [(o.collection, o.key) for ops in operations for o in ops], commit
        )

    # -- reading ----------------------------------------------------------------------

    @rule(
        places=st.lists(draw.PLACE, min_size=1, max_size=3),
        epoch=draw.EPOCHS,
        deleted=st.booleans(),
    )
    def get(self, places: list[Place], epoch: int | None, *, deleted: bool) -> None:
        """Get records by key: plain, with versions, as rows, with tombstones."""
        name = places[0][0]
        keys = [key for _, key in places]

        def read(side: Side) -> Any:
            rows = side.store.read(name, keys, deleted=deleted, epoch=epoch)
            return side.rows(name, sorted(rows.values()))

        self.pair.agree(read)
        self.pair.agree(lambda side: side.store.collection(name).get_many(keys))
        self.pair.agree(lambda side: side.store.collection(name).get(keys[0]))
        self.pair.agree(partial(Side.read_versioned, place=places[0]))

    @rule(lookup=draw.own("lookup"))
    def get_by(self, lookup: tuple[str, str, Any]) -> None:
        """Get a record by a unique field."""
        name, field, value = lookup
        self.pair.agree(lambda side: side.store.collection(name).get_by(field, value))

    @rule(query=draw.QUERY, limit=draw.LIMITS)
    def find(
        self, query: tuple[str, list[Condition], list[str]], limit: int | None
    ) -> None:
        """Find all pages to the end, and count the records."""
        name, where, order_by = query

        def pages(side: Side) -> list[Any]:
            found: list[Any] = []
            after = None
            while not found or after is not None:
                page = side.store.collection(name).find(
                    *where, order_by=order_by, limit=limit, after=after
                )
                found.append(page.items)
                after = page.next
            return found

        self.pair.agree(pages)
        self.pair.agree(lambda side: side.store.collection(name).count(*where))

    @rule(place=draw.PLACE, epoch=draw.EPOCHS, deleted=st.booleans())
    def scan(self, place: Place, epoch: int | None, *, deleted: bool) -> None:
        """Scan the records after a key."""
        name, after = place
        self.pair.agree(
            lambda side: side.rows(
                name, side.store.scan(name, after=after, deleted=deleted, epoch=epoch)
            )
        )

    # -- transactions, several at once ------------------------------------------------

    @rule(which=draw.WHICH, places=st.lists(draw.PLACE, min_size=1, max_size=3))
    def read_inside(self, which: int, places: list[Place]) -> None:
        """Get records in a transaction."""
        for place in places:
            self.pair.agree(partial(Side.read_inside, which=which, place=place))

    @rule(which=draw.WHICH, query=draw.QUERY, limit=draw.LIMITS)
    def find_inside(
        self,
        which: int,
        query: tuple[str, list[Condition], list[str]],
        limit: int | None,
    ) -> None:
        """Find and count records in a transaction."""
        name, where, order_by = query

        def find(side: Side) -> Any:
            page = (
                side.inside(which)
                .collection(name)
                .find(*where, order_by=order_by, limit=limit)
            )
            return page.items, page.next is None

        self.pair.agree(find)
        self.pair.agree(lambda side: side.inside(which).collection(name).count(*where))

    @rule(which=draw.WHICH, put=draw.own("record"), age=draw.AGES)
    def put_inside(self, which: int, put: tuple[str, Any], age: Age) -> None:
        """Put a record in a transaction."""
        name, record = put
        place = (name, self.schema[name].key_of(record))
        self.pair.agree(
            lambda side: (
                side.inside(which)
                .collection(name)
                .put(record, if_version=side.version(place, age))
            )
        )

    @rule(which=draw.WHICH, place=draw.PLACE, age=draw.AGES)
    def delete_inside(self, which: int, place: Place, age: Age) -> None:
        """Delete a key in a transaction."""
        name, key = place
        self.pair.agree(
            lambda side: (
                side.inside(which)
                .collection(name)
                .delete(key, if_version=side.version(place, age))
            )
        )

    @rule(which=draw.WHICH)
    @precondition(lambda self: self.pair.model.open)
    def end(self, which: int) -> None:
        """Commit a transaction."""
        places = self.pair.model.written_inside(which)
        self.pair.write(places, lambda side: side.end(which))

    @rule(which=draw.WHICH)
    @precondition(lambda self: self.pair.model.open)
    def abandon(self, which: int) -> None:
        """Leave a transaction without a commit."""
        self.pair.agree(lambda side: side.abandon(which))

    # -- meta, roles, closing ---------------------------------------------------------

    @rule(steps=st.lists(draw.META, min_size=1, max_size=4))
    def set_meta(self, steps: list[tuple[str, Any, Any]]) -> None:
        """Compare and set meta entries, with the current or another expected value."""
        for name, value, expected in steps:
            self.pair.agree(partial(Side.set_meta, name=name, to=value, was=expected))

    @rule(role=draw.ROLES, epoch=st.integers(0, 2))
    def change_role(self, role: Role, epoch: int) -> None:
        """Set a role: mostly primary, or nearly every commit would be refused."""
        self.pair.set_role(RoleState(role, epoch))

    @rule()
    def close_and_open(self) -> None:
        """Close and reopen the stores; open transactions are lost."""
        for side in self.pair:
            side.open.clear()
        self.pair.real.store = self.reopen(self.pair.real.store)
        self.followers.real.store = self.reopen(self.followers.real.store)

    @rule()
    def everything_is_equal(self) -> None:
        """Compare all rows, tombstones and changes, of both pairs."""
        for pair in (self.pair, self.followers):
            for spec in self.schema:
                pair.agree(partial(Side.everything, name=spec.name))
                pair.agree(partial(Side.all_found, name=spec.name))
        self.pair.agree(lambda side: side.comparable_log())
        assert self.followers.real.log() == []


MakeStore = Callable[[Schema], Store]


def _machine(
    make_store: MakeStore, schema: Schema, reopen: Callable[[Store], Store] | None
) -> type[StoreMachine]:
    def make(_: StoreMachine) -> Store:
        return make_store(schema)

    members: dict[str, Any] = {"schema": schema, "make_store": make}
    if reopen is not None:
        members["reopen"] = lambda _, store: reopen(store)
    return type("Machine", (StoreMachine,), members)


def machine_for(
    make_store: MakeStore,
    *,
    schema: Schema = domain.SCHEMA,
    reopen: Callable[[Store], Store] | None = None,
    settings: hypothesis_settings | None = None,
) -> type[TestCase]:
    """Build a test case that runs the machine; assign it to a name of a module.

    Args:
        make_store: returns a new, empty store each time.
        schema: schema of the records, for instance your own.
        reopen: closes a store and opens its data again, if the backend is durable.
        settings: Hypothesis settings; those of the profile by default.
    """
    case: type[TestCase] = _machine(make_store, schema, reopen).TestCase
    if settings is not None:
        case.settings = settings  # type: ignore[attr-defined]
    return case


def run_machine(
    make_store: MakeStore,
    *,
    schema: Schema = domain.SCHEMA,
    reopen: Callable[[Store], Store] | None = None,
    settings: hypothesis_settings | None = None,
) -> None:
    """Run the machine on a store now, inside a test. Arguments: :func:`machine_for`."""
    run_state_machine_as_test(_machine(make_store, schema, reopen), settings=settings)
