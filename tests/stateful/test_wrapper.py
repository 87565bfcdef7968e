from __future__ import annotations

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing import FaultyStore, SlowStore, machine_for


def wrapped(schema: Schema) -> Store:
    return WrapperStore(FaultyStore(SlowStore(MemoryStore(schema))))


TestWrappedStore = machine_for(wrapped)
