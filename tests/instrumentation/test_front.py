"""The front of a store: each call of a user is timed once, and none without instruments."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import pend_storage as ps
from pend_storage._collection import Collection
from pend_storage._transaction import TransactionCollection
from pend_storage.aio import AsyncCollection, AsyncTransactionCollection
from pend_storage.events import Event
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._seam import OPERATIONS
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.domain import SCHEMA, Ship, a_ship

from .recorder import Recorder

WALLET: Final = ("0x" + "ab" * 32, "0x" + "cd" * 20)
SHIP: Final = a_ship("s1", name="Anna", call_sign="ANNA")

VERBS: Final[dict[str, Callable[[Any], Any]]] = {
    "get": lambda ships: ships.get("s1"),
    "get_many": lambda ships: ships.get_many(["s1", "s2"]),
    "get_by": lambda ships: ships.get_by("call_sign", "ANNA"),
    "versioned": lambda ships: ships.versioned("s1"),
    "find": lambda ships: ships.find(ps.field("crew") == 0, limit=3),
    "count": lambda ships: ships.count(ps.field("crew") == 0),
    "scan": lambda ships: list(ships.scan()),
    "put": lambda ships: ships.put(SHIP),
    "put_many": lambda ships: ships.put_many([SHIP]),
    "delete": lambda ships: ships.delete("s1"),
}
"""A call of each verb of a collection."""
READS: Final = ("get", "get_many", "get_by", "versioned", "find", "count")
"""Verbs that ask the store inside a transaction."""
PRIVATE: Final = {"rows", "select", "write"}
"""Verbs of a transaction's collection that the library itself calls."""

Open = Callable[..., ps.Store]


@pytest.fixture(params=["memory", "json"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """A function that opens a store of one kind."""
    opened: list[ps.Store] = []

    def open_it(**options: Any) -> ps.Store:
        if request.param == "memory":
            store: ps.Store = MemoryStore(SCHEMA, **options)
        else:
            store = JsonStore(SCHEMA, tmp_path / str(len(opened)), **options)
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


def kind_of(store: ps.Store) -> str:
    return "memory" if isinstance(store, MemoryStore) else "json"


# -- which calls are recorded ----------------------------------------------------------------


def public_verbs(owner: type) -> set[str]:
    return {
        name
        for name, member in vars(owner).items()
        if inspect.isfunction(member) and name[0] != "_"
    }


def test_a_new_verb_of_a_collection_needs_a_timing() -> None:
    assert public_verbs(Collection) == set(VERBS) == public_verbs(AsyncCollection)
    for owner in (TransactionCollection, AsyncTransactionCollection):
        reads = public_verbs(owner) - {"put", "delete"} - PRIVATE
        assert reads == set(READS)
    assert {*VERBS, "commit", "load", "save", "switch"} == set(OPERATIONS)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_timed_once(open_one: Open, verb: str) -> None:
    seen = Recorder()
    store = open_one(instruments=seen)
    store.collection(Ship).put(SHIP)
    seen.taken()

    VERBS[verb](store.collection(Ship))

    (call,) = seen.taken()
    assert call.name == (verb, "ships", kind_of(store))
    assert call.error is None
    assert 0 < call.seconds < 5


@pytest.mark.parametrize("verb", VERBS)
def test_a_timed_verb_answers_as_an_untimed_one(open_one: Open, verb: str) -> None:
    def answer(**options: Any) -> Any:
        ships = open_one(**options).collection(Ship)
        ships.put(SHIP)
        return VERBS[verb](ships)

    assert answer(instruments=Recorder()) == answer()


@pytest.mark.parametrize("verb", READS)
def test_reads_of_a_transaction_are_timed_once_and_its_end_is_a_commit(
    open_one: Open, verb: str
) -> None:
    seen = Recorder()
    store = open_one(instruments=seen)
    store.collection(Ship).put(SHIP)
    seen.taken()

    with store.transaction() as tx:
        VERBS[verb](tx.collection(Ship))
        assert seen.names() == [(verb, "ships", kind_of(store))]
        tx.collection(Ship).put(replace(SHIP, crew=3))
        assert seen.names() == []

    assert seen.names() == [("commit", "", kind_of(store))]


def test_every_attempt_of_a_repeated_transaction_is_a_commit(open_one: Open) -> None:
    seen = Recorder()
    store = open_one(instruments=seen)
    ships = store.collection(Ship)
    ships.put(SHIP)
    attempts = 0

    def raise_crew(tx: ps.Transaction) -> None:
        nonlocal attempts
        attempts += 1
        known = tx.collection(Ship).get("s1")
        assert known is not None
        if attempts == 1:
            ships.put(replace(SHIP, crew=5))  # of another caller
        tx.collection(Ship).put(replace(known, crew=known.crew + 1))

    store.run(raise_crew)

    commits = [call.error for call in seen.taken() if call.operation == "commit"]
    assert commits == ["Conflict", None]


def test_a_call_that_fails_is_recorded_with_the_class_of_its_error(
    open_one: Open,
) -> None:
    seen = Recorder()
    ships = open_one(instruments=seen).collection(Ship)
    ships.put(SHIP)
    seen.taken()

    with pytest.raises(ps.Conflict):
        ships.put(SHIP, if_version=0)
    with pytest.raises(ps.InvalidQuery):
        ships.get_by("name", "Anna")
    with pytest.raises(TypeError):
        ships.get([])  # type: ignore[arg-type]

    errors = [(call.operation, call.error) for call in seen.taken()]
    assert errors == [
        ("put", "Conflict"),
        ("get_by", "InvalidQuery"),
        ("get", "TypeError"),
    ]


def test_a_scan_is_recorded_at_its_end_without_the_time_of_its_reader(
    open_one: Open,
) -> None:
    seen = Recorder()
    ships = open_one(instruments=seen).collection(Ship)
    ships.put_many([a_ship(f"s{n}") for n in range(5)])
    seen.taken()

    for _ in ships.scan():
        assert seen.names() == []
        time.sleep(0.05)
    (whole,) = seen.taken()
    next(left := ships.scan())
    left.close()  # type: ignore[attr-defined]
    (part,) = seen.taken()

    assert whole.name[:2] == part.name[:2] == ("scan", "ships")
    assert whole.seconds < 0.2
    assert whole.error is part.error is None


@pytest.fixture
def pend(tmp_path: Path) -> Iterator[tuple[ps.Store, Recorder]]:
    """A Pend server's store with its legacy files, and its instruments."""
    seen = Recorder()
    with ps.open_store(
        schema="pend_storage.pend", json=tmp_path, create=True, instruments=seen
    ) as store:
        yield store, seen


def test_a_change_by_a_view_of_a_file_is_one_commit(
    pend: tuple[ps.Store, Recorder],
) -> None:
    store, seen = pend
    wallets = store.legacy("wallet-db.json")
    seen.taken()

    wallets[WALLET[0]] = WALLET[1]
    assert seen.names().count(("commit", "", "json")) == 1
    assert wallets[WALLET[0]] == WALLET[1]

    assert {call.operation for call in seen.taken()} <= {"get_by", "get"}


def test_verbs_of_whole_files_are_timed_by_their_halves(
    pend: tuple[ps.Store, Recorder],
) -> None:
    store, seen = pend
    loaded = ("load", "wallet-db.json", "json")
    saved = ("save", "wallet-db.json", "json")

    value = store.load("wallet-db.json", default={})
    assert seen.names() == [loaded]
    store.save("wallet-db.json", {**value, WALLET[0]: WALLET[1]})
    assert seen.names() == [saved]
    with store.edit("wallet-db.json") as wallets:
        assert seen.names() == [loaded]
        wallets.clear()
    assert seen.names() == [saved]
    store.update("wallet-db.json", lambda wallets: wallets.update([WALLET]))
    assert seen.names() == [loaded, saved]


def test_awaited_verbs_of_whole_files_are_timed_as_blocking_ones(
    pend: tuple[ps.Store, Recorder],
) -> None:
    inner, seen = pend

    async def work() -> None:
        store = ps.AsyncStore(inner)
        await store.save("wallet-db.json", dict([WALLET]))
        await store.load("wallet-db.json")
        await store.close()

    asyncio.run(work())

    assert [call.operation for call in seen.taken()] == ["save", "load"]


def test_a_wrapper_is_timed_as_the_store_that_it_wraps() -> None:
    seen = Recorder()
    store = WrapperStore(MemoryStore(SCHEMA, instruments=seen))

    store.collection(Ship).get("s1")

    assert seen.names() == [("get", "ships", "memory")]


def test_a_store_of_another_author_is_named_by_its_class() -> None:
    from pend_storage.events import log_event
    from pend_storage.instrumentation._timing import timing

    class LakeStore(MemoryStore):
        def __init__(self, instruments: Instruments) -> None:
            super().__init__(SCHEMA)
            self._timing = timing(instruments, type(self), log_event)

    seen = Recorder()
    LakeStore(seen).collection(Ship).get("s1")

    assert seen.names() == [("get", "ships", "lake")]


# -- coroutines ------------------------------------------------------------------------------


ASYNC_VERBS: Final[dict[str, Callable[[Any], Any]]] = {
    **VERBS,
    "scan": lambda ships: _all_of(ships.scan()),
}


async def _all_of(records: Any) -> list[Any]:
    return [record async for record in records]


@pytest.mark.parametrize("own", [True, False], ids=["own", "of-the-store"])
@pytest.mark.parametrize("verb", VERBS)
def test_each_awaited_verb_is_timed_once(verb: str, own: bool) -> None:
    seen = Recorder()

    async def work() -> None:
        inner = MemoryStore(SCHEMA, instruments=None if own else seen)
        async with ps.AsyncStore(inner, instruments=seen if own else None) as store:
            await store.collection(Ship).put(SHIP)
            seen.taken()
            await ASYNC_VERBS[verb](store.collection(Ship))

    asyncio.run(work())

    assert seen.names() == [(verb, "ships", "memory")]


@pytest.mark.parametrize("verb", READS)
def test_awaited_transactions_are_timed_as_blocking_ones(verb: str) -> None:
    seen = Recorder()

    async def work() -> None:
        async with ps.AsyncStore(MemoryStore(SCHEMA), instruments=seen) as store:
            await store.collection(Ship).put(SHIP)
            seen.taken()
            async with store.transaction() as tx:
                await VERBS[verb](tx.collection(Ship))
            await store.run(_nothing)

    async def _nothing(tx: ps.AsyncTransaction) -> None:
        await tx.collection(Ship).put(SHIP)

    asyncio.run(work())

    assert seen.names() == [
        (verb, "ships", "memory"),
        ("commit", "", "memory"),
        ("commit", "", "memory"),
    ]


def test_an_awaited_call_that_fails_or_is_cancelled_is_recorded() -> None:
    seen = Recorder()

    async def work() -> None:
        async with ps.AsyncStore(MemoryStore(SCHEMA), instruments=seen) as store:
            with pytest.raises(ps.InvalidQuery):
                await store.collection(Ship).get_by("name", "x")
            waiting: Awaitable[Any] = asyncio.wait_for(
                store.collection(Ship).count(), timeout=0
            )
            with pytest.raises(TimeoutError):
                await waiting

    asyncio.run(work())

    assert [call.error for call in seen.taken()][:1] == ["InvalidQuery"]


def test_a_blocking_function_of_an_asynchronous_store_is_timed_once() -> None:
    seen = Recorder()

    async def work() -> None:
        inner = MemoryStore(SCHEMA, instruments=seen)
        async with ps.AsyncStore(inner) as store:
            await store.call(lambda blocking: blocking.collection(Ship).get("s1"))

    asyncio.run(work())

    assert seen.names() == [("get", "ships", "memory")]


# -- without instruments -----------------------------------------------------------------------


@contextmanager
def traced() -> Iterator[list[str]]:
    """Every function that is called in the block: ``module.name``."""
    found: list[str] = []

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            module = frame.f_globals.get("__name__", "")
            found.append(f"{module}.{frame.f_code.co_name}")
        elif event == "c_call":
            found.append(f"{argument.__module__}.{argument.__name__}")

    gc.disable()  # else callbacks of other libraries, which read a clock
    sys.setprofile(trace)
    try:
        yield found
    finally:
        sys.setprofile(None)
        gc.enable()


@pytest.mark.parametrize("verb", VERBS)
def test_without_instruments_no_clock_is_read_and_none_of_their_code_runs(
    open_one: Open, verb: str
) -> None:
    store = open_one()
    store.collection(Ship).put(SHIP)
    VERBS[verb](store.collection(Ship))  # whatever is made at the first call
    store.collection(Ship).put(SHIP)

    with traced() as found:
        VERBS[verb](store.collection(Ship))

    own = ("pend_storage.instrumentation", "pend_storage._timed")
    assert not [name for name in found if name.startswith(own)]
    if verb not in {"put", "put_many", "delete"}:  # a commit has a time
        assert not [name for name in found if name.startswith("time.")]
    assert found, "nothing was traced"


def test_with_instruments_a_call_reads_the_monotonic_clock_twice() -> None:
    ships = MemoryStore(SCHEMA, instruments=Recorder()).collection(Ship)

    with traced() as found:
        ships.get("s1")

    clocks = [name for name in found if name.startswith("time.")]
    assert clocks == ["time.perf_counter", "time.perf_counter"]


def test_a_change_of_the_systems_time_changes_no_duration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Recorder()
    ships = MemoryStore(SCHEMA, instruments=seen).collection(Ship)
    clock = iter(range(10**6, 0, -3600))  # an hour back at each look

    monkeypatch.setattr(time, "time", lambda: next(clock))
    ships.get("s1")
    ships.count()

    assert all(0 <= call.seconds < 5 for call in seen.taken())


def test_neither_library_is_imported_by_a_store() -> None:
    import subprocess

    probe = (
        "import sys, pend_storage as ps\n"
        "from pend_storage.pend import SCHEMA\n"
        "ps.MemoryStore(SCHEMA).collection('users').get('x')\n"
        "import pend_storage.instrumentation as i; i.Instruments\n"
        "assert not {'prometheus_client', 'opentelemetry'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", probe], check=True)


# -- instruments that fail ----------------------------------------------------------------------


def test_instruments_that_raise_are_reported_once_and_change_no_call(
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    seen = Recorder(failure=RuntimeError("no room"))

    with JsonStore(SCHEMA, tmp_path, instruments=seen, hook=events.append) as store:
        ships = store.collection(Ship)
        for verb in ("put", *VERBS):
            VERBS[verb](ships)
        with pytest.raises(ps.InvalidQuery):
            ships.get_by("name", "x")

    found = [event for event in events if event.name == "instruments-failed"]
    assert [event.fields for event in found] == [{"instruments": "Recorder"}]
    assert "no room" in found[0].message
    assert seen.asked > len(VERBS)


def test_events_reach_the_instruments_and_the_hook(tmp_path: Path) -> None:
    seen = Recorder()
    events: list[Event] = []
    (tmp_path / "strange.json").write_text("{}")

    with JsonStore(SCHEMA, tmp_path, instruments=seen, hook=events.append):
        pass

    names = [event.name for event in events]
    assert "files-unclaimed" in names
    assert [event.name for event in seen.events] == names


def test_commits_that_were_written_together_are_counted(tmp_path: Path) -> None:
    seen = Recorder()
    with JsonStore(SCHEMA, tmp_path, instruments=seen) as store:
        seen.counts.clear()
        ships = [a_ship(f"s{n}") for n in range(6)]
        store.commit_each([SCHEMA.batch((SCHEMA.put("ships", s),)) for s in ships])

    assert seen.counts == [("merged_commits", 6)]


def test_the_protocol_is_that_of_the_recorder() -> None:
    assert isinstance(Recorder(), Instruments)
