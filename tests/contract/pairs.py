"""The store contract, run over a pair of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from typing_extensions import override

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase, Role
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import StoreContract
from pend_storage.testing.contract._harness import Harness, commit
from pend_storage.testing.domain import a_log

__all__ = [
    "NEEDS_A_ROLE",
    "Contract",
    "Everyday",
    "PairContract",
    "PairHarness",
    "look_inside",
]

NEEDS_A_ROLE = {"ApplyContract", "FollowContract", "EpochContract"}
"""Tests of a store with a role of its own, which a pair does not have."""

NOT_EVERY_DAY = {
    *("GetContract", "GetManyContract", "GetByContract", "ReadContract"),
    *("PutContract", "PutManyContract", "DeleteContract"),
    *("ConditionContract", "JsonConditionContract", "UnstorableTextContract"),
    *("OrderContract", "PageContract"),
    *("AcceptedContract", "RefusedContract", "CloseContract"),
}
"""What is up to the stores rather than to the pair: asked of real ones in long runs."""

if TYPE_CHECKING:
    Contract = StoreContract
    Everyday = StoreContract
else:
    PARTS = [c for c in StoreContract.__bases__ if c.__name__ not in NEEDS_A_ROLE]
    Contract = type("Contract", tuple(PARTS), {})
    FEWER = [c for c in PARTS if c.__name__ not in NOT_EVERY_DAY]
    Everyday = type("Everyday", tuple(FEWER), {})


class PairHarness(Harness):
    """Fixture of a pair: makes it, and reads its stores."""

    has_role = False
    has_locks = True
    can_purge = True
    can_load = False
    phase: ClassVar[Phase]
    canary: ClassVar[float] = 0.0

    def make_stores(self, schema: Schema) -> tuple[Store, Store]:
        return MemoryStore(schema), MemoryStore(schema)

    def make_pair(self, schema: Schema) -> DualWriteStore:
        json, postgres = self.make_stores(schema)
        pair = DualWriteStore(
            json=json, postgres=postgres, compare=1.0, canary=self.canary
        )
        pair.switch(self.phase, accept=CODES)
        return pair

    @override
    def make_store(self, schema: Schema) -> Store:
        return self.make_pair(schema)

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        assert isinstance(store, DualWriteStore)
        return look_inside(store, collection, key)

    def test_it_tells_when_and_at_which_epoch(self, store: Store) -> None:
        commit(store, a_log("a"))

        (one,) = store.changes()

        assert one.epoch >= 1


class PairContract(PairHarness, Contract):
    """The contract of every store, over two stores."""


def look_inside(
    pair: DualWriteStore, collection: str, key: str
) -> dict[str, Any] | None:
    """Rows of the secondary, or where there is none, of the primary."""
    pair.catch_up()
    roles = pair.roles()
    inner = pair._pair.json
    if (roles.json and roles.json.role is Role.DETACHED) or (
        roles.postgres and roles.postgres.role is Role.SECONDARY
    ):
        inner = pair._pair.postgres
    assert isinstance(inner, MemoryStore)
    row = inner._state.tables[collection].rows.get(key)
    return None if row is None else msgspec.json.decode(row[1], type=dict[str, Any])
