"""Two threads write one key at the same moment; how many keys are then left different."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeAlias

from benchmarks.contenders.pair import dual_store, stores
from benchmarks.record import Account, accounts, revised
from benchmarks.results import Figure
from benchmarks.workbench import Workbench
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["left_different", "run", "write_pairs"]

Put: TypeAlias = Callable[[Account], object]
_PAIRS: Final = 2_000
_QUICK_PAIRS: Final = 100


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """The schedule for everybody, in both directions."""
    pairs = _QUICK_PAIRS if bench.plan.quick else _PAIRS
    figures = []
    for phase in (Phase.PARALLEL, Phase.POSTGRES_PRIMARY):
        for name, opened in ((_THEIRS, _theirs), (_OURS, _ours)):
            tell(f"{name}, {phase}")
            with (
                stores(bench) as (json, postgres),
                opened(json, postgres, phase) as put,
            ):
                write_pairs(put, pairs)
                # Looked at when the last call has come back, not later.
                different = left_different(json, postgres)
            figures.append(
                Figure(
                    what=f"{name}, {phase}: keys left different",
                    value=float(len(different)),
                    aim=0.0 if name == _OURS else None,
                    note=f"{len(different) / pairs:.1%} of {pairs:,}",
                )
            )
    return figures


def write_pairs(put: Put, pairs: int) -> None:
    """Both threads write one key after the other, each at the same moment."""
    everyone = accounts(pairs)
    together = threading.Barrier(2, timeout=60.0)

    def write(thread: int) -> None:
        for account in everyone:
            mine = revised(account, thread + 1)
            together.wait()
            put(mine)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, thread) for thread in range(2)]:
            done.result()


def left_different(json: Store, postgres: Store) -> list[str]:
    """The keys under which the two stores hold something else."""
    there = {row.key: row.record for row in postgres.scan("accounts")}
    here = {row.key: row.record for row in json.scan("accounts")}
    return [
        key for key in here.keys() | there.keys() if here.get(key) != there.get(key)
    ]


_OURS: Final = "DualWriteStore"
_THEIRS: Final = "LaunchDarkly"


@contextmanager
def _ours(json: Store, postgres: Store, phase: Phase) -> Iterator[Put]:
    with dual_store(json, postgres, phase, compare=0.0) as store:
        yield store.collection(Account).put


@contextmanager
def _theirs(json: Store, postgres: Store, phase: Phase) -> Iterator[Put]:
    from benchmarks.contenders.launchdarkly import Stage, migrator  # noqa: PLC0415

    stage = Stage.DUALWRITE if phase is Phase.PARALLEL else Stage.LIVE
    puts = (json.collection(Account).put, postgres.collection(Account).put)
    gets = (json.collection(Account).get, postgres.collection(Account).get)
    with migrator(stage, read=gets, write=puts) as calls:

        def put(account: Account) -> None:
            done = calls.write(account)
            assert done.authoritative.is_success()
            assert done.nonauthoritative is not None
            assert done.nonauthoritative.is_success()

        yield put
