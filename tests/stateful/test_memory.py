from __future__ import annotations

from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import machine_for

TestMemoryStore = machine_for(MemoryStore)
