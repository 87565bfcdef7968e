"""Tokens, and who writes."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from pend_storage._model.attribution import (
    acting,
    actor,
    new_token,
    token_moment,
    token_time,
)
from pend_storage.aio import AsyncStore
from pend_storage.errors import ConfigError
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log


def test_a_token_tells_when_it_was_made() -> None:
    before = time.time()
    made = token_time(new_token())

    assert made is not None
    assert before - 0.001 <= made <= time.time()


@pytest.mark.parametrize("text", ["", "an order", "-"])
def test_another_text_does_not_tell(text: str) -> None:
    assert token_time(text) is None


def test_tokens_sort_by_the_time_at_which_they_were_made() -> None:
    early = new_token()
    time.sleep(0.002)
    moment = token_moment()
    time.sleep(0.002)

    assert early < moment < new_token()


def test_no_token_is_made_twice_in_many_threads() -> None:
    made: list[list[str]] = []

    def make() -> None:
        made.append([new_token() for _ in range(5_000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({token for part in made for token in part}) == 20_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_makes_tokens_of_its_own() -> None:
    new_token()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        os.write(writing, new_token()[12:24].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)

    assert len(theirs) == 12
    assert theirs != new_token()[12:24]


def test_what_a_block_said_ends_with_it_also_after_an_error() -> None:
    with pytest.raises(ValueError, match="oops"), acting(by="ann"):
        raise ValueError("oops")

    assert actor() == (None, None, None)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
@pytest.mark.parametrize("name", ["by", "reason", "request"])
def test_what_no_store_could_keep_is_refused_at_once(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name), acting(**{name: text}):
        pass


def test_coroutines_and_tasks_keep_their_own_while_their_commits_are_merged() -> None:
    async def write(store: AsyncStore, name: str) -> None:
        with store.acting(by=name, reason=f"for {name}"):
            await store.collection(Log).put(a_log(name))
            await asyncio.gather(
                *(store.collection(Log).put(a_log(f"{name}-{n}")) for n in range(5))
            )
            await store.run(lambda tx: tx.collection(Log).put(a_log(f"{name}-run")))

    async def main() -> dict[str, tuple[str | None, str | None]]:
        async with AsyncStore(MemoryStore(SCHEMA)) as store:
            await asyncio.gather(*(write(store, f"w{n}") for n in range(10)))
            await store.collection(Log).put(a_log("absent"))
            return {
                change.records[0].key: (change.by, change.reason)
                async for change in store.changes()
            }

    told = asyncio.run(main())

    assert len(told) == 71
    assert told.pop("absent") == (None, None)
    for key, (by, reason) in told.items():
        assert by == key.split("-")[0]
        assert reason == f"for {by}"
