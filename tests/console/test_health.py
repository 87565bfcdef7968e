"""Health: a store that hangs is an answer within the deadline, and is asked once."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from typing_extensions import override

from pend_storage import AsyncStore, MemoryStore
from pend_storage._health import Health, health_of, health_of_pair
from pend_storage.errors import StoreUnavailable
from pend_storage.factory import DualWriteStore
from pend_storage.phases import Phase, Role, RoleState
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.domain import SCHEMA


class Odd(MemoryStore):
    """Store with a role that is set by the test, or with none to be had."""

    def __init__(self, answer: RoleState | Exception | threading.Event) -> None:
        super().__init__(SCHEMA)
        self.answer = answer
        self.asked = 0

    @override
    def role(self) -> RoleState:
        self.asked += 1
        if isinstance(self.answer, threading.Event):
            self.answer.wait(20)
            return RoleState(Role.PRIMARY, 1)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


AWAY = StoreUnavailable("connection refused", store="PostgreSQL")
PRIMARY, SECONDARY = RoleState(Role.PRIMARY, 3), RoleState(Role.SECONDARY, 3)
FENCED, DETACHED = RoleState(Role.FENCED, 3), RoleState(Role.DETACHED, 3)


@pytest.fixture
def stuck() -> Iterator[Odd]:
    """Store that does not answer until the end of the test."""
    gate = threading.Event()
    yield Odd(gate)
    gate.set()


def test_a_store_that_answers_is_ready() -> None:
    found = MemoryStore(SCHEMA).health()

    assert found.ready
    assert [check.name for check in found.checks] == ["store"]


def test_a_store_that_fails_says_why() -> None:
    found = health_of(Odd(AWAY))

    assert not found.ready
    assert "connection refused" in found.sentence


def test_an_error_of_another_backend_is_an_answer_too() -> None:
    assert "ValueError: what" in health_of(Odd(ValueError("what"))).sentence


def test_a_store_that_hangs_is_an_answer_within_the_deadline(stuck: Odd) -> None:
    started = time.monotonic()
    found = health_of(stuck, deadline=0.1)
    took = time.monotonic() - started

    assert not found.ready
    assert "has not answered" in found.sentence
    assert took < 5


def test_a_store_that_hangs_is_asked_once(stuck: Odd) -> None:
    threads = threading.active_count()
    for _ in range(5):
        assert not health_of(stuck, deadline=0.05).ready

    assert stuck.asked == 1
    assert threading.active_count() <= threads + 1


def test_a_store_that_answers_again_is_ready_again() -> None:
    gate = threading.Event()
    store = Odd(gate)
    assert not health_of(store, deadline=0.05).ready
    gate.set()
    time.sleep(0.05)
    store.answer = PRIMARY

    assert health_of(store, deadline=5).ready


def test_what_is_kept_of_a_question_does_not_keep_the_store_alive() -> None:
    store = MemoryStore(SCHEMA)
    store.health()
    gone = weakref.ref(store)
    del store
    gc.collect()

    assert gone() is None


@pytest.mark.parametrize(
    ("json", "postgres", "ready", "words"),
    [
        (PRIMARY, SECONDARY, True, "JSON is primary and answers"),
        (SECONDARY, PRIMARY, True, "PostgreSQL is primary and answers"),
        (PRIMARY, AWAY, True, "JSON is primary and answers"),
        (AWAY, PRIMARY, True, "PostgreSQL is primary and answers"),
        (PRIMARY, None, True, "JSON is primary and answers"),
        (FENCED, SECONDARY, True, "a switch is under way"),
        (FENCED, RoleState(Role.PRIMARY, 4), True, "PostgreSQL is primary"),
        (FENCED, AWAY, False, "PostgreSQL is primary, or may be"),
        (SECONDARY, AWAY, False, "PostgreSQL is primary, or may be"),
        (DETACHED, AWAY, False, "does not answer"),
        (AWAY, AWAY, False, "JSON and PostgreSQL is primary, or may be"),
        (None, None, False, "cannot be opened"),
        (SECONDARY, SECONDARY, False, "no store is primary"),
    ],
    ids=str,
)
def test_a_pair_is_ready_where_its_primary_answers(
    json: RoleState | Exception | None,
    postgres: RoleState | Exception | None,
    ready: bool,
    words: str,
) -> None:
    sides = [None if side is None else Odd(side) for side in (json, postgres)]

    found = health_of_pair(*sides)

    assert found.ready is ready
    assert words in found.checks[0].sentence


def test_a_secondary_that_hangs_keeps_no_pair_from_being_ready(stuck: Odd) -> None:
    found = health_of_pair(Odd(PRIMARY), stuck, deadline=0.1)

    assert found.ready
    assert [check.ok for check in found.checks] == [True, True, False]


def test_every_kind_of_store_has_health() -> None:
    pair = DualWriteStore(json=MemoryStore(SCHEMA), postgres=MemoryStore(SCHEMA))
    pair.switch(Phase.PARALLEL)
    wrapped = WrapperStore(pair)

    async def awaited() -> Health:
        async with AsyncStore(wrapped) as store:
            return await store.health()

    for found in (pair.health(), wrapped.health(), asyncio.run(awaited())):
        assert found.ready
        assert [check.name for check in found.checks] == ["primary", "json", "postgres"]


def test_a_forked_child_asks_anew(stuck: Odd) -> None:
    assert not health_of(stuck, deadline=0.05).ready
    child = os.fork()
    if child == 0:
        stuck.answer = PRIMARY
        os._exit(0 if health_of(stuck, deadline=5).ready else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
