"""Many threads through many phase changes."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest

from pend_storage._transaction import Transaction
from pend_storage.dualwrite import CODES
from pend_storage.phases import Phase
from pend_storage.testing.domain import Tally, a_tally

from .processes import Place, Process, join, living

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


@pytest.mark.parametrize("seed", range(2))
def test_increments_through_random_phase_changes_lose_nothing(
    place: Place, seed: int
) -> None:
    one = Process(place, relay_interval=0.01, secondary_timeout=5.0, switch_patience=60)
    two = Process(place, relay_interval=0.01, secondary_timeout=5.0, switch_patience=60)
    stop = threading.Event()
    done = [0] * 6
    failed: list[BaseException] = []

    def add(tx: Transaction, name: str) -> None:
        tally = tx.collection(Tally).get(name) or a_tally(name)
        tx.collection(Tally).put(replace(tally, value=tally.value + 1))

    def work(me: int) -> None:
        rng = random.Random(me)
        process = (one, two)[me % 2]
        try:
            while not stop.is_set():
                name = f"t{rng.randrange(8)}"
                process.store.run(lambda tx, n=name: add(tx, n), attempts=1_000)  # type: ignore[misc]
                done[me] += 1
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    workers = [threading.Thread(target=work, args=(me,)) for me in range(6)]
    for worker in workers:
        worker.start()
    rng = random.Random(seed)
    for n in range(60):
        to((one, two)[n % 2], rng.choice(list(Phase)))
    stop.set()
    join(*workers, timeout=60)

    assert failed == []
    to(one, PAR)
    one.store.catch_up()
    total = sum(tally.value for tally in place.json.collection(Tally).scan())
    assert total == sum(done) > 60
    assert living(place.json) == living(place.postgres)
    one.store.close()
    two.store.close()


def test_a_reader_never_sees_a_value_older_than_one_it_saw(place: Place) -> None:
    one = Process(place, relay_interval=0.01, secondary_timeout=5.0, switch_patience=60)
    two = Process(place, relay_interval=0.01, secondary_timeout=5.0, switch_patience=60)
    stop = threading.Event()
    acked = [0]
    stale: list[tuple[int, int]] = []

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            one.store.collection(Tally).put(a_tally("t", n))
            acked[0] = n

    def read(process: Process) -> None:
        last = 0
        while not stop.is_set():
            floor = max(last, acked[0])
            found = process.store.collection(Tally).get("t")
            last = 0 if found is None else found.value
            if last < floor:
                stale.append((last, floor))

    workers = [threading.Thread(target=write)]
    workers += [threading.Thread(target=read, args=(p,)) for p in (one, two)]
    for worker in workers:
        worker.start()
    rng = random.Random(3)
    for _ in range(40):
        to(two, rng.choice(list(Phase)))
    stop.set()
    join(*workers, timeout=60)

    assert stale == []
    assert acked[0] > 40
    one.store.close()
    two.store.close()
