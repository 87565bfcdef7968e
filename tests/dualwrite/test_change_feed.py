"""One change feed from two stores."""

from __future__ import annotations

import threading

import pytest

from pend_storage.dualwrite import CODES
from pend_storage.errors import (
    ChangesExpired,
    StoreUnavailable,
)
from pend_storage.phases import Phase

from .processes import Place, Process, join

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def test_the_feed_goes_on_through_every_switch(one: Process) -> None:
    expected = []
    for n, phase in enumerate((J, PAR, PG, P, PG, PAR, J, P)):
        to(one, phase)
        for m in range(3):
            one.put("a", f"{n}.{m}")
            expected.append(f"{n}.{m}")
    feed = list(one.store.changes())

    assert [change.records[0].record.text for change in feed] == expected
    for n, change in enumerate(feed):
        assert list(one.store.changes(after=change.sequence)) == feed[n + 1 :]
    numbers = [change.sequence for change in feed]
    assert numbers == sorted(set(numbers))


def test_a_reader_of_the_feed_misses_nothing_while_phases_change(
    one: Process, two: Process
) -> None:
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            text = f"{len(written)}"
            one.put("a", text)
            written.append(text)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[str] = []
    after = 0
    for phase in (PAR, PG, P, PG, PAR, J) * 3:
        to(two, phase)
        for change in two.store.changes(after):
            after = change.sequence
            seen += [record.record.text for record in change.records]
    stop.set()
    join(writer)
    seen += [c.records[0].record.text for c in two.store.changes(after)]

    assert seen == written


def test_the_feed_says_when_it_does_not_reach_back(place: Place, one: Process) -> None:
    one.put("a", "1")
    (first,) = one.store.changes()
    to(one, PG)
    one.put("a", "2")
    place.json.prune(place.json.head())

    with pytest.raises(ChangesExpired):
        list(one.store.changes())
    later = list(one.store.changes(after=first.sequence))
    assert [change.records[0].record.text for change in later] == ["2"]


def test_the_feed_needs_the_former_primary_only_for_what_is_old(one: Process) -> None:
    one.put("a", "1")
    to(one, PG)
    one.put("a", "2")
    last = list(one.store.changes())[-1]
    one.put("a", "3")
    one.json.is_cut = True

    assert len(list(one.store.changes(after=last.sequence))) == 1
    with pytest.raises(StoreUnavailable):
        list(one.store.changes())
