"""Cost of routing to two stores that do nothing themselves."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, TypeAlias

from typing_extensions import override

from benchmarks.contenders.pair import dual_store
from benchmarks.measure import spread_of
from benchmarks.record import SCHEMA, accounts
from benchmarks.results import Figure
from benchmarks.workbench import Workbench
from pend_storage.phases import Phase
from pend_storage.records import Advance, Batch, ChangedRecord, Row
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore

__all__ = ["run"]

Call: TypeAlias = Callable[[], object]
_AIM: Final = 20.0
_CALLS: Final = 2_000
_COLLECTION: Final = "accounts"
_KEY: Final = accounts(1)[0].id
_BATCH: Final = replace(
    SCHEMA.batch([SCHEMA.put(_COLLECTION, accounts(1)[0])]),
    token="",  # one that is committed many times, each time anew
)


class _NoStore(WrapperStore):
    """Has a role, and does nothing with data."""

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        return {}

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return (1,)

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        if mark is not None:  # a switch depends on it
            return self.inner.apply(records, epoch=epoch, mark=mark)
        return 1


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """The median added by each way of routing, in rounds of shuffled order."""
    calls_each = _CALLS // 10 if bench.plan.quick else _CALLS
    with ExitStack() as stack:
        plain = MemoryStore(SCHEMA)
        direct = _NoStore(plain)
        bases: Mapping[str, Call] = {
            "read": lambda: direct.read(_COLLECTION, [_KEY]),
            "write": lambda: direct.commit(_BATCH),
        }
        calls = {**_ours(stack), **_theirs(stack)}
        timed = {**{f"direct {name}": call for name, call in bases.items()}, **calls}
        times = _times(timed, bench.plan.rounds, calls_each, tell)
    return [
        _figure(name, times[name], times[f"direct {name.rsplit(maxsplit=1)[-1]}"])
        for name in calls
    ]


def _figure(name: str, mine: Sequence[float], direct: Sequence[float]) -> Figure:
    added = [1e6 * (a - b) for a, b in zip(mine, direct, strict=True)]
    spread = spread_of(added)
    return Figure(
        what=name,
        value=spread.median,
        q1=spread.q1,
        q3=spread.q3,
        unit="µs",
        aim=_AIM if name.startswith("DualWriteStore") else None,
    )


def _times(
    calls: Mapping[str, Call], rounds: int, number: int, tell: Callable[[str], None]
) -> Mapping[str, Sequence[float]]:
    """Seconds of a call in each round: the mean of so many in a row."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffler = random.Random(7)  # noqa: S311 - an order, not a secret
    for turn in range(rounds + 1):
        tell(f"round {turn} of {rounds}")
        shuffler.shuffle(order)
        for name in order:
            call = calls[name]
            started = time.perf_counter()
            for _ in range(number):
                call()
            if turn:  # the first one warms up
                found[name].append((time.perf_counter() - started) / number)
    return found


def _ours(stack: ExitStack) -> Mapping[str, Call]:
    def pair(timeout: float | None) -> Store:
        first, second = (_NoStore(MemoryStore(SCHEMA)) for _ in range(2))
        opened = dual_store(
            first, second, Phase.PARALLEL, compare=0.0, secondary_timeout=timeout
        )
        return stack.enter_context(opened)

    waiting, patient, asynchronous = pair(1.0), pair(None), pair(0.0)
    return {
        "DualWriteStore, read": lambda: waiting.read(_COLLECTION, [_KEY]),
        "DualWriteStore, both stores in turn, write": lambda: patient.commit(_BATCH),
        "DualWriteStore, secondary with a deadline, write": (
            lambda: waiting.commit(_BATCH)
        ),
        "DualWriteStore, secondary not waited for, write": (
            lambda: asynchronous.commit(_BATCH)
        ),
    }


def _theirs(stack: ExitStack) -> Mapping[str, Call]:
    from benchmarks.contenders.launchdarkly import Calls, Stage, migrator  # noqa: PLC0415

    store = _NoStore(MemoryStore(SCHEMA))

    def read(_: object) -> object:
        return store.read(_COLLECTION, [_KEY])

    def write(_: object) -> object:
        return store.commit(_BATCH)

    def at(stage: Stage, *, serial: bool = False) -> Calls:
        opened = migrator(stage, read=(read, read), write=(write, write), serial=serial)
        return stack.enter_context(opened)

    dualwrite, serial, parallel = (
        at(Stage.DUALWRITE),
        at(Stage.SHADOW, serial=True),
        at(Stage.SHADOW),
    )
    return {
        "LaunchDarkly, dualwrite, read": lambda: dualwrite.read(_KEY),
        "LaunchDarkly, shadow, serial, read": lambda: serial.read(_KEY),
        "LaunchDarkly, shadow, parallel, read": lambda: parallel.read(_KEY),
        "LaunchDarkly, dualwrite, write": lambda: dualwrite.write(_KEY),
    }
