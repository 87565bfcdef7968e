"""The state machine through AsyncStore, and where no call goes alone."""

from __future__ import annotations

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import machine_for
from pend_storage.testing.bridge import BridgedStore
from pend_storage.testing.crowd import CrowdedStore


def awaited(schema: Schema) -> Store:
    return BridgedStore(MemoryStore(schema))


def crowded(schema: Schema) -> Store:
    return CrowdedStore(MemoryStore(schema))


TestAwaitedStore = machine_for(awaited)
TestCrowdedStore = machine_for(crowded)
