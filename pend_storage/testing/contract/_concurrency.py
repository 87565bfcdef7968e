"""Contract of concurrency: many threads on one store, or on two of the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from threading import Barrier, BrokenBarrierError, Thread

import pytest

from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict, ReferenceViolation, UniqueViolation
from pend_storage.query import field
from pend_storage.store import Store
from pend_storage.testing.contract._children import add
from pend_storage.testing.contract._harness import Harness, commit
from pend_storage.testing.domain import (
    Log,
    Ship,
    Tally,
    a_berth,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["ConcurrencyContract"]

_Pair = tuple[Store, Store]


class ConcurrencyContract(Harness):
    """Contract of concurrency, with threads."""

    @pytest.fixture(params=["one store", "two stores"])
    def pair(self, request: pytest.FixtureRequest, store: Store) -> Iterator[_Pair]:
        """One store twice, or two stores on the same data.

        Commits of one store may be merged before they reach the data; those of two
        stores meet only there, as commits of two processes do.
        """
        if request.param == "one store":
            yield store, store
            return
        if not self.multi_process:
            pytest.skip(f"{type(self).__name__}.multi_process is False")
        function, arguments = self.opener(store)
        other = function(*arguments)
        yield store, other
        other.close()

    def test_concurrent_increments_lose_nothing(self, store: Store) -> None:
        threads, times = 4, 25
        barrier = Barrier(threads)

        def work(_: int) -> None:
            barrier.wait()
            for _ in range(times):
                store.run(lambda tx: add(tx, "t"), attempts=1000)

        in_threads(threads, work, barrier=barrier)

        assert store.collection(Tally).get("t") == a_tally("t", threads * times)
        assert len(list(store.changes())) == threads * times

    def test_of_many_who_create_one_record_one_wins(self, pair: _Pair) -> None:
        threads, rounds = 4, 10
        barrier, wins, losses = Barrier(threads), [], []

        def work(me: int) -> None:
            logs = pair[me % 2].collection(Log)
            for n in range(rounds):
                barrier.wait()
                try:
                    logs.put(a_log(f"{n}"), if_version=0)
                    wins.append(n)
                except Conflict:
                    losses.append(n)

        in_threads(threads, work, barrier=barrier)

        assert sorted(wins) == list(range(rounds))
        assert len(losses) == rounds * (threads - 1)

    def test_of_many_who_want_one_unique_value_one_wins(self, pair: _Pair) -> None:
        threads, rounds = 4, 10
        barrier, wins, losses = Barrier(threads), [], []

        def work(me: int) -> None:
            ships = pair[me % 2].collection(Ship)
            for n in range(rounds):
                barrier.wait()
                try:
                    ships.put(a_ship(f"{n}-{me}", call_sign=f"S{n}"))
                    wins.append(n)
                except UniqueViolation:
                    losses.append(n)

        in_threads(threads, work, barrier=barrier)

        assert sorted(wins) == list(range(rounds))
        assert len(losses) == rounds * (threads - 1)

    def test_a_target_is_never_deleted_under_a_new_referrer(self, pair: _Pair) -> None:
        store, other = pair
        rounds, barrier, done = 15, Barrier(2), []

        def refer() -> None:
            for n in range(rounds):
                barrier.wait()
                try:
                    store.collection(Ship).put(a_ship(f"s{n}", berth_id=f"b{n}"))
                    done.append(("refer", n))
                except ReferenceViolation:
                    pass

        def delete() -> None:
            for n in range(rounds):
                barrier.wait()
                try:
                    other.collection("berths").delete(f"b{n}")
                    done.append(("delete", n))
                except ReferenceViolation:
                    pass

        commit(store, *(a_berth(f"b{n}") for n in range(rounds)))
        concurrently([refer, delete], barrier=barrier)

        assert sorted(n for _, n in done) == list(range(rounds))
        berths = {berth.id for berth in store.collection("berths").scan()}
        assert {ship.berth_id for ship in store.collection(Ship).scan()} == berths

    def test_write_skew_in_threads_never_breaks_what_both_guard(
        self, pair: _Pair
    ) -> None:
        rounds, barrier = 30, Barrier(2)

        def go_off_duty(me: int) -> None:
            mine, other = f"watch-{me}", f"watch-{1 - me}"
            for n in range(rounds):
                barrier.wait()

                def off_duty(tx: Transaction, n: int = n) -> None:
                    watch = tx.collection(Tally)
                    if watch.get(f"{n}-{other}") is not None:
                        watch.delete(f"{n}-{mine}")

                pair[me].run(off_duty, attempts=100)

        commit(
            pair[0], *(a_tally(f"{n}-watch-{m}") for n in range(rounds) for m in (0, 1))
        )
        in_threads(2, go_off_duty, barrier=barrier)

        left = [tally.name.split("-")[0] for tally in pair[1].collection(Tally).scan()]
        assert sorted(map(int, left)) == list(range(rounds))

    def test_write_skew_over_absent_keys_lets_one_of_two_in(self, pair: _Pair) -> None:
        rounds, barrier = 30, Barrier(2)

        def enter(me: int) -> None:
            for n in range(rounds):
                barrier.wait()

                def claim(tx: Transaction, n: int = n) -> None:
                    tallies = tx.collection(Tally)
                    if tallies.get(f"{n}-{1 - me}") is None:
                        tallies.put(a_tally(f"{n}-{me}"))

                pair[me].run(claim, attempts=100)

        in_threads(2, enter, barrier=barrier)

        inside = [
            tally.name.split("-")[0] for tally in pair[0].collection(Tally).scan()
        ]
        assert sorted(map(int, inside)) == list(range(rounds))

    def test_a_thread_reads_what_it_wrote(self, store: Store) -> None:
        threads, stale = 4, []

        def work(me: int) -> None:
            logs = store.collection(Log)
            for n in range(25):
                version = logs.put(a_log(f"{me}", str(n)))
                if logs.versioned(f"{me}") != (a_log(f"{me}", str(n)), version):
                    stale.append((me, n))
                if logs.count(field("id") == f"{me}", field("text") == str(n)) != 1:
                    stale.append((me, n))

        in_threads(threads, work)

        assert stale == []

    def test_a_reader_never_sees_half_a_commit(self, store: Store) -> None:
        torn: list[set[int]] = []
        stop: list[bool] = []

        def read() -> None:
            while not stop:
                rows = store.read("tallies", ["x", "y"])
                values = {row.record.value for row in rows.values()}
                found = {t.value for t in store.collection(Tally).find().items}
                torn.extend(seen for seen in (values, found) if len(seen) > 1)

        reader = Thread(target=read)
        reader.start()
        try:
            for n in range(40):
                commit(store, a_tally("x", n), a_tally("y", n))
        finally:
            stop.append(True)
            reader.join()

        assert torn == []


def in_threads(
    count: int, work: Callable[[int], None], *, barrier: Barrier | None = None
) -> None:
    """Call a function in several threads, and wait for all of them.

    Args:
        count: number of threads.
        work: called with 0, 1, 2, ...
        barrier: barrier that the threads use; it is broken when one of them fails, so
            that the others do not wait for it forever.

    Raises:
        ExceptionGroup: errors of the threads.
    """
    concurrently([partial(work, n) for n in range(count)], barrier=barrier)


def concurrently(
    works: list[Callable[[], None]], *, barrier: Barrier | None = None
) -> None:
    """Call each function in a thread of its own; see :func:`in_threads`."""
    errors: list[Exception] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BrokenBarrierError:
            pass  # a consequence of the error that is raised below
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
            if barrier is not None:
                barrier.abort()

    workers = [Thread(target=run, args=(work,)) for work in works]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise ExceptionGroup("in threads of the test", errors)
