"""The poller: one thread looks, whatever the number of those who ask, and rests after."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pend_storage.console._poller import Look, Poller
from pend_storage.console._series import Series
from pend_storage.errors import StoreUnavailable
from tests.console.statuses import status

STATUS = status()


def look(number: int, _: Look | None) -> Look:
    return Look(number=number, at=datetime.now(UTC), seconds=0.0, status=STATUS)


@pytest.fixture
def made() -> Iterator[Callable[..., Poller]]:
    pollers: list[Poller] = []

    def build(looking: Any = look, **options: float) -> Poller:
        options = {"interval": 0.02, "idle_after": 0.2, **options}
        pollers.append(Poller(looking, lambda: None, **options))
        return pollers[-1]

    yield build
    for poller in pollers:
        poller.close()


def soon(is_so: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    return is_so()


def test_nothing_is_looked_at_before_the_first_question(
    made: Callable[..., Poller],
) -> None:
    poller = made()
    time.sleep(0.1)

    assert poller.looks == 0
    assert poller.latest is None


def test_a_question_is_answered_by_a_fresh_look(made: Callable[..., Poller]) -> None:
    poller = made()

    first = poller.ask()
    second = poller.ask(newer_than=1)

    assert first is not None
    assert second is not None
    assert second.number > 1


def test_it_rests_when_no_question_comes(made: Callable[..., Poller]) -> None:
    poller = made()
    poller.ask()
    time.sleep(0.4)
    before = poller.looks
    time.sleep(0.3)

    assert poller.looks == before
    again = poller.ask(newer_than=before)
    assert again is not None
    assert again.number > before


def test_many_who_follow_cost_no_more_looks_than_one(
    made: Callable[..., Poller],
) -> None:
    poller = made(interval=0.05)

    async def follow(count: int) -> list[int]:
        seen = [0] * count

        async def one(place: int) -> None:
            async for _ in poller.follow(patience=5):
                seen[place] += 1

        tasks = [asyncio.create_task(one(n)) for n in range(count)]
        while not all(number >= 5 for number in seen):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return seen

    before = poller.looks
    seen = asyncio.run(follow(50))

    assert poller.looks - before <= max(seen) + 2
    assert soon(lambda: poller.listeners == 0)


def test_a_look_that_fails_leaves_the_facts_of_before(
    made: Callable[..., Poller],
) -> None:
    fails = threading.Event()

    def looking(number: int, last: Look | None) -> Look:
        if fails.is_set():
            raise StoreUnavailable("gone", store="PostgreSQL")
        return look(number, last)

    poller = made(looking)
    good = poller.ask()
    fails.set()
    bad = poller.ask(newer_than=poller.looks)

    assert good is not None
    assert bad is not None
    assert "gone" in str(bad.problem)
    assert bad.status is STATUS
    assert bad.facts_at is not None
    fails.clear()
    back = poller.ask(newer_than=poller.looks)
    assert back is not None
    assert back.problem is None


def test_an_error_of_another_library_shows_no_value(
    made: Callable[..., Poller],
) -> None:
    def looking(number: int, last: Look | None) -> Look:
        raise ValueError("+36301234567")

    found = made(looking).ask()

    assert found is not None
    assert "ValueError" in str(found.problem)
    assert "+3630" not in str(found.problem)


def test_a_look_that_hangs_holds_up_no_question(made: Callable[..., Poller]) -> None:
    gate, hangs = threading.Event(), threading.Event()

    def looking(number: int, last: Look | None) -> Look:
        if hangs.is_set():
            gate.wait(20)
        return look(number, last)

    poller = made(looking)
    first = poller.ask()
    assert first is not None
    hangs.set()
    time.sleep(0.1)
    started = time.monotonic()
    found = poller.ask(newer_than=10**6, patience=0.2)
    took = time.monotonic() - started
    gate.set()

    assert found is not None
    assert took < 5


def test_the_last_look_is_sent_again_where_no_new_one_comes(
    made: Callable[..., Poller],
) -> None:
    gate = threading.Event()

    def looking(number: int, last: Look | None) -> Look:
        if number > 1:
            gate.wait(20)
        return look(number, last)

    poller = made(looking)

    async def three() -> list[int]:
        numbers: list[int] = []
        async for found in poller.follow(patience=0.05):
            numbers.append(found.number)
            if len(numbers) == 3:
                break
        return numbers

    numbers = asyncio.run(three())
    gate.set()

    assert numbers == [1, 1, 1]


def test_a_forked_child_looks_by_itself(made: Callable[..., Poller]) -> None:
    poller = made()
    poller.ask()
    child = os.fork()
    if child == 0:
        found = poller.ask(patience=5)
        os._exit(0 if found is not None and poller.looks >= 1 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_closing_ends_those_who_follow(made: Callable[..., Poller]) -> None:
    poller = made()

    async def follow() -> int:
        count = 0
        async for _ in poller.follow(patience=60):
            count += 1
            if count == 2:
                threading.Thread(target=poller.close).start()
        return count

    assert asyncio.run(asyncio.wait_for(follow(), 20)) >= 2


# -- series -------------------------------------------------------------------------------


def test_series_are_bounded_and_a_snapshot_has_the_newest() -> None:
    series = Series()
    for number in range(4_000):
        series.add(
            Look(
                number=number,
                at=datetime.fromtimestamp(number, UTC),
                seconds=0.0,
                status=STATUS,
                rates={"json": float(number)},
            )
        )

    short, whole = series.document(), series.document(whole=True)

    assert len(short["ops"]["json"]) == 120
    assert len(whole["ops"]["json"]) == 3_600
    assert short["ops"]["json"][-1] == (3999.0, 3999.0)
    assert len(short["lag_seconds"]) == 120
    assert [pause for _, pause in short["switch_pauses"]] == [0.024]
