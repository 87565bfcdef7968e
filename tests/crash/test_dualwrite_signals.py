"""Ctrl-C at any line that hands a commit to the secondary: no other writer waits in vain."""

from __future__ import annotations

from functools import partial
from typing import Final

from pend_storage.dualwrite import DualWriteStore
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import Child, Report
from pend_storage.testing.domain import SCHEMA, Tally, a_tally
from pend_storage.testing.interrupts import interrupted_at, outcome_in_time

MODULES: Final = ("dualwrite/_replicator.py", "_group_commit.py")


def put(store: DualWriteStore, name: str, value: int) -> None:
    store.collection(Tally).put(a_tally(name, value))


def ctrl_c_at_each_line(report: Report) -> None:
    events: list[Event] = []
    secondary = MemoryStore(SCHEMA)
    store = DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=secondary,
        compare=0,
        relay_interval=None,
        secondary_timeout=5.0,
        hook=events.append,
    )
    store.switch(Phase.PARALLEL)
    line, was_hit = 0, True
    while was_hit:
        line += 1
        events.clear()
        was_hit = interrupted_at(line, partial(put, store, "t", line), modules=MODULES)
        later = outcome_in_time(partial(put, store, "later", line))
        found = secondary.collection(Tally).get("later")
        if later != "done" or events or found is None or found.value != line:
            report(f"line {line}: {later}, {found}, {[event.name for event in events]}")
            break
    store.close()
    report(line)


def test_a_write_that_is_interrupted_at_any_line_keeps_no_other_one_from_the_secondary() -> (
    None
):
    with Child(ctrl_c_at_each_line) as child:
        outcome = child.finish()

    *told, lines = outcome.reports
    assert not told, outcome.errors
    assert lines > 20
