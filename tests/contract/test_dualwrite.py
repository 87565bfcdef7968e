"""The contract over a pair of stores: in each phase, and while phases change."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError, StaleEpoch
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import StoreContract
from pend_storage.testing.domain import SCHEMA
from pend_storage.testing.faults import InterceptingStore, Verb

from .pairs import NEEDS_A_ROLE, PairContract, look_inside

T = TypeVar("T")


class TestJsonOnly(PairContract):
    phase = Phase.JSON_ONLY


class TestParallel(PairContract):
    phase = Phase.PARALLEL


class TestPostgresPrimary(PairContract):
    phase = Phase.POSTGRES_PRIMARY


class TestPostgresOnly(PairContract):
    phase = Phase.POSTGRES_ONLY


class TestParallelWithCanaryReads(PairContract):
    phase = Phase.PARALLEL
    canary = 1.0


class TestPostgresPrimaryWithCanaryReads(PairContract):
    phase = Phase.POSTGRES_PRIMARY
    canary = 1.0


class Restless(InterceptingStore):
    """Goes to another phase before every third call."""

    def __init__(self, inner: DualWriteStore) -> None:
        super().__init__(inner)
        self.pair = inner
        self._calls = itertools.count()
        self._phases = itertools.cycle([*Phase, *reversed(Phase)])
        self._lock = threading.Lock()

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        if next(self._calls) % 3 == 0:
            with self._lock:
                phase = next(self._phases)
            self.pair.switch(phase, accept=CODES)
        return call()


class TestThroughPhaseChanges(PairContract):
    phase = Phase.PARALLEL

    @override
    def make_store(self, schema: Schema) -> Store:
        return Restless(self.make_pair(schema))

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        assert isinstance(store, Restless)
        return look_inside(store.pair, collection, key)


class TestThroughPhaseChangesWithCanaryReads(TestThroughPhaseChanges):
    canary = 1.0


def test_a_pair_is_asked_everything_but_what_needs_a_role() -> None:
    left_out = {c.__name__ for c in StoreContract.__mro__} - {
        c.__name__ for c in PairContract.__mro__
    }

    assert left_out == NEEDS_A_ROLE | {"StoreContract"}


def test_a_pair_has_no_role_and_follows_nobody() -> None:
    with DualWriteStore(json=MemoryStore(SCHEMA), postgres=MemoryStore(SCHEMA)) as pair:
        assert pair.role().epoch == 0
        with pytest.raises(StaleEpoch):
            pair.apply([])
        with pytest.raises(ConfigError, match="switch"):
            pair.compare_and_set_meta("role", None, {"role": "primary", "epoch": 1})
