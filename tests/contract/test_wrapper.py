from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from typing_extensions import override

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing import StoreContract


class TestWrapperStore(StoreContract):
    has_locks: ClassVar[bool] = True
    can_purge: ClassVar[bool] = True
    can_snapshot: ClassVar[bool] = True
    can_reserve: ClassVar[bool] = True

    @override
    def make_store(self, schema: Schema) -> Store:
        return WrapperStore(MemoryStore(schema))

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        assert isinstance(store, WrapperStore)
        assert isinstance(store.inner, MemoryStore)
        row = store.inner._state.tables[collection].rows.get(key)
        return None if row is None else msgspec.json.decode(row[1])
