"""The verbs of whole files, awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pend_storage import AsyncStore, ConfigError, LockTimeout, MergeConflict
from pend_storage.aio import _holding as holding
from pend_storage.store import Store

from .places import ANY, ANY_TOO, Place

pytestmark = pytest.mark.timeout(120)

Act = Callable[[AsyncStore], Coroutine[Any, Any, None]]


@pytest.fixture
def play(place: Place) -> Callable[[Act], None]:
    """Runs a coroutine with a store, which it closes."""

    def play(act: Act) -> None:
        async def main() -> None:
            async with AsyncStore(await asyncio.to_thread(place.open_first)) as store:
                await act(store)

        asyncio.run(main())

    return play


async def is_free(store: AsyncStore, file: str = ANY) -> bool:
    """Return True if another task could acquire it now."""

    async def attempt() -> bool:
        try:
            async with store.exclusive(file, timeout=0.01):
                return True
        except LockTimeout:
            return False

    return await asyncio.create_task(attempt())


def test_every_verb(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        assert not await store.exists(ANY)
        with pytest.raises(FileNotFoundError):
            await store.load(ANY)
        data = await store.load(ANY, {})
        data["a"] = {"n": 1}
        await store.save(ANY, data)
        assert await store.exists(ANY)
        async with store.edit(ANY, ANY_TOO) as (one, other):
            one["a"]["m"] = 2
            other["b"] = 3

        def change(found: dict[str, Any]) -> str:
            found["a"]["n"] += 1
            return "changed"

        async def change_later(found: dict[str, Any]) -> str:
            await asyncio.sleep(0)
            return change(found)

        assert await store.update(ANY, change) == "changed"
        assert await store.update(ANY, change_later) == "changed"
        data["a"]["new"] = True
        await store.save(ANY, data)
        assert await store.load(ANY) == {"a": {"n": 3, "m": 2, "new": True}}
        assert await store.load(ANY_TOO) == {"b": 3}
        with pytest.raises(ConfigError, match="no layout claims"):
            await store.load("other.json")

    play(act)


def test_tasks_know_what_they_loaded(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        await store.save(ANY, ["b", "a"])
        loaded = asyncio.Barrier(4)

        async def rebuild(name: str) -> None:
            items = await store.load(ANY)
            await loaded.wait()
            await store.save(ANY, [item for item in items if item != "b"] + [name])

        await asyncio.gather(*(rebuild(name) for name in "wxyz"))
        assert sorted(await store.load(ANY)) == ["a", "w", "x", "y", "z"]

    play(act)


def test_the_same_member_changed_both_ways(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        await store.save(ANY, {"a": 1})
        mine, yours = await store.load(ANY), await store.load(ANY)
        mine["a"], yours["a"] = 2, 3
        await store.save(ANY, mine)
        with pytest.raises(MergeConflict):
            await store.save(ANY, yours)

    play(act)


def test_who_writes_is_known(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        with store.acting(by="ann"):
            await store.save(ANY, {"a": 1})
        assert [change.by async for change in store.changes()] == ["ann"]

    play(act)


def test_one_task_at_a_time(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        async def create() -> None:
            async with store.exclusive(ANY):
                records = await store.load(ANY, [])
                number = max((r["id"] for r in records), default=0) + 1
                records.append({"id": number})
                await store.save(ANY, records)

        async def create_by_load() -> None:
            records = await store.load(ANY, [], exclusive=True)
            number = max((r["id"] for r in records), default=0) + 1
            records.append({"id": number})
            await store.save(ANY, records)

        def change(records: list[Any]) -> None:
            records.append({"id": max((r["id"] for r in records), default=0) + 1})

        await asyncio.gather(
            *(create() for _ in range(12)),
            *(create_by_load() for _ in range(12)),
            *(store.update(ANY, change) for _ in range(12)),
        )
        ids = [record["id"] for record in await store.load(ANY)]
        assert ids == list(range(1, 37))

    play(act)


def test_a_task_may_take_it_again_and_its_children_wait(
    play: Callable[[Act], None],
) -> None:
    async def act(store: AsyncStore) -> None:
        async with store.exclusive(ANY):
            async with store.exclusive(ANY, timeout=0):
                await store.update(ANY, lambda data: data.update(a=1), timeout=0)
            assert not await is_free(store)
            assert await is_free(store, ANY_TOO)
        assert await is_free(store)

    play(act)


def test_many_who_wait_keep_no_thread_from_others(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        async def wait(file: str) -> None:
            async with store.exclusive(file):
                pass

        files = [layout.file for layout in store.layouts[:12]]
        held = [store.exclusive(file) for file in files]
        for hold in held:
            await hold.__aenter__()
        waiting = [asyncio.create_task(wait(file)) for file in files * 3]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(store.save(ANY, {"a": 1}), 20)
        for hold in held:
            await hold.__aexit__(None, None, None)
        await asyncio.gather(*waiting)

    play(act)


def test_who_is_cancelled_while_waiting_never_has_it(
    play: Callable[[Act], None],
) -> None:
    async def act(store: AsyncStore) -> None:
        async def wait() -> None:
            async with store.exclusive(ANY):
                pytest.fail("was cancelled")

        async with store.exclusive(ANY):
            tasks = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await is_free(store)

    play(act)


def test_who_is_cancelled_while_threads_have_it(place: Place) -> None:
    """He waits in a thread by then, which must not keep what it gets."""
    store: Store = place.open_first()

    async def main() -> None:
        async with AsyncStore(store) as awaited:

            async def wait() -> None:
                async with awaited.exclusive(ANY):
                    pytest.fail("was cancelled")

            leave = threading.Event()
            entered = threading.Event()

            def stay() -> None:
                with store.exclusive(ANY):
                    entered.set()
                    leave.wait()

            thread = threading.Thread(target=stay)
            thread.start()
            await asyncio.to_thread(entered.wait)
            task = asyncio.create_task(wait())
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            leave.set()
            await asyncio.to_thread(thread.join)
            assert await eventually(awaited)

    asyncio.run(main())


def test_who_is_cancelled_inside_lets_go(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        entered = asyncio.Event()

        async def stay() -> None:
            async with store.exclusive(ANY):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(stay())
        await entered.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await eventually(store)

    play(act)


async def eventually(store: AsyncStore) -> bool:
    for _ in range(500):
        if await is_free(store):
            return True
        await asyncio.sleep(0.02)
    return False


def test_it_ends_with_the_task_that_never_saves(play: Callable[[Act], None]) -> None:
    async def act(store: AsyncStore) -> None:
        await asyncio.create_task(store.load(ANY, {}, exclusive=True))
        assert await eventually(store)

    play(act)


def test_it_is_taken_back_from_who_does_not_save_in_time(
    play: Callable[[Act], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "LEASE_SECONDS", 0.05)

    async def act(store: AsyncStore) -> None:
        data = await store.load(ANY, {}, exclusive=True)
        assert await eventually(store)
        with pytest.raises(LockTimeout, match="not saved in time"):
            await store.save(ANY, data)
        await store.save(ANY, data)

    play(act)


def test_threads_and_tasks_wait_for_each_other(place: Place) -> None:
    store: Store = place.open_first()

    async def main() -> None:
        async with AsyncStore(store) as awaited:
            order: list[str] = []

            def in_thread() -> None:
                with store.exclusive(ANY):
                    order.append("thread")

            thread = threading.Thread(target=in_thread)
            async with awaited.exclusive(ANY):
                thread.start()
                await asyncio.sleep(0.1)
                order.append("task")
            await asyncio.to_thread(thread.join)
            with store.exclusive(ANY_TOO):
                assert not await is_free(awaited, ANY_TOO)
            assert order == ["task", "thread"]

    asyncio.run(main())
