"""Overhead of a slow secondary for calls that do not wait for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle
from typing import Final, TypeAlias

from benchmarks.contenders.pair import dual_store, stores
from benchmarks.measure import spread_of
from benchmarks.record import Account, accounts, revised
from benchmarks.results import Figure
from benchmarks.workbench import Workbench
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.testing.faults import SlowStore, Verb

__all__ = ["run"]

Call: TypeAlias = Callable[[], object]
Calls: TypeAlias = Mapping[str, Call]
Make: TypeAlias = Callable[[Store, Store, ExitStack], Calls]

_SLOW: Final = 0.2
_KEYS: Final = 100
_VERBS: Final[tuple[Verb, ...]] = ("read", "query", "commit", "apply", "meta")
_READ: Final = "a read"
_WRITE: Final = "a write"
_AIMS: Final = {_READ: 0.1, _WRITE: 0.5}
"""Milliseconds: what two medians of the same thing differ by on a busy machine."""
_OURS: Final = "DualWriteStore"


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """Reads and writes of everybody, with a quick secondary and with a slow one."""
    contenders: dict[str, Make] = {
        _OURS: _ours,
        "LaunchDarkly": _launchdarkly,
        "laboratory": _laboratory,
    }
    figures = []
    for name, make in contenders.items():
        tell(name)
        with ExitStack() as stack:
            quick = make(*_pair(bench, stack, 0.0), stack)
            slow = make(*_pair(bench, stack, _SLOW), stack)
            for what in quick:
                if name == _OURS:
                    rounds, number = bench.plan.rounds, 20 if bench.plan.quick else 200
                else:  # each call takes as long as the secondary
                    rounds, number = 3, 5
                figure = _compare(
                    name, what, (quick, slow), rounds=rounds, number=number
                )
                figures.append(figure)
    return figures


def _compare(
    name: str, what: str, both: tuple[Calls, Calls], *, rounds: int, number: int
) -> Figure:
    quick, slow = both
    plain, added = [], []
    for _ in range(rounds):
        plain.append(_median(quick[what], number))
        added.append(_median(slow[what], number) - plain[-1])
    spread = spread_of([each * 1e3 for each in added])
    return Figure(
        what=f"{name}: added to {what}",
        value=spread.median,
        q1=spread.q1,
        q3=spread.q3,
        unit="ms",
        aim=_AIMS[what] if name == _OURS else None,
        note=f"to {statistics.median(plain) * 1e3:.2f} ms",
    )


def _median(call: Call, number: int) -> float:
    times = []
    for _ in range(number):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _pair(bench: Workbench, stack: ExitStack, slow: float) -> tuple[Store, Store]:
    json, postgres = stack.enter_context(stores(bench))
    return json, SlowStore(postgres, dict.fromkeys(_VERBS, slow))


def _keys() -> Iterator[str]:
    return cycle([account.id for account in accounts(_KEYS)])


def _news() -> Iterator[Account]:
    return cycle([revised(a, turn) for turn in (1, 2) for a in accounts(_KEYS)])


def _ours(json: Store, postgres: Store, stack: ExitStack) -> Calls:
    """Every read is compared, and no write waits for the secondary."""
    opened = dual_store(
        json, postgres, Phase.PARALLEL, compare=1.0, secondary_timeout=0.0
    )
    collection = stack.enter_context(opened).collection(Account)
    collection.put_many(accounts(_KEYS))
    keys, news = _keys(), _news()
    return {
        _READ: lambda: collection.get(next(keys)),
        _WRITE: lambda: collection.put(next(news)),
    }


def _launchdarkly(json: Store, postgres: Store, stack: ExitStack) -> Calls:
    """Stage shadow, both reads at the same time, as it does by default."""
    from benchmarks.contenders.launchdarkly import Stage, migrator  # noqa: PLC0415

    here, there = json.collection(Account), postgres.collection(Account)
    for collection in (here, there):
        collection.put_many(accounts(_KEYS))
    opened = migrator(
        Stage.SHADOW, read=(here.get, there.get), write=(here.put, there.put)
    )
    peer, keys, news = stack.enter_context(opened), _keys(), _news()
    return {
        _READ: lambda: peer.read(next(keys)),
        _WRITE: lambda: peer.write(next(news)),
    }


def _laboratory(json: Store, postgres: Store, _stack: ExitStack) -> Calls:
    """An experiment for each read; it does not write."""
    from laboratory import Experiment  # noqa: PLC0415

    here, there = json.collection(Account), postgres.collection(Account)
    for collection in (here, there):
        collection.put_many(accounts(_KEYS))
    keys = _keys()

    def read() -> object:
        key = next(keys)
        experiment = Experiment()
        experiment.control(here.get, args=[key])
        experiment.candidate(there.get, args=[key])
        return experiment.conduct()

    return {_READ: read}
