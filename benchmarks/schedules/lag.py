"""Cost of ``lag()``, at any backlog."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle
from typing import Final

from benchmarks.contenders.pair import dual_store, stores
from benchmarks.measure import spread_of
from benchmarks.record import SCHEMA, Account, accounts
from benchmarks.results import Figure
from benchmarks.workbench import Workbench
from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["run"]

_PENDING: Final = (1_000, 30_000)
_QUICK: Final = (100, 1_000)
_AT_ONCE: Final = 500
_KEYS: Final = 1_000
_ASKED: Final = 20
_AIM: Final = 5.0
"""Milliseconds, at any number of commits."""


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """Ask pairs of both phases with two stores, at two numbers of pending commits."""
    figures: list[Figure] = []
    for phase in (Phase.PARALLEL, Phase.POSTGRES_PRIMARY):
        with ExitStack() as stack:
            json, postgres = stack.enter_context(stores(bench))
            pair = stack.enter_context(
                dual_store(json, postgres, phase, compare=0.0, relay_interval=None)
            )
            primary = json if phase is Phase.PARALLEL else postgres
            figures += _asked(bench, pair, primary, f"{phase}", tell)
    return figures


def _asked(
    bench: Workbench,
    pair: DualWriteStore,
    primary: Store,
    phase: str,
    tell: Callable[[str], None],
) -> Iterator[Figure]:
    epoch, news, done = primary.role().epoch, cycle(accounts(_KEYS)), 0
    after = primary.head()
    for pending in _QUICK if bench.plan.quick else _PENDING:
        tell(f"{phase}, {pending:,} pending")
        while done < pending:
            puts = [SCHEMA.put(Account, next(news)) for _ in range(_AT_ONCE)]
            primary.commit_each([SCHEMA.batch([put]) for put in puts], epoch=epoch)
            done += len(puts)
        pair.lag()  # the first one may have to read the log once
        asked = [_milliseconds(pair.lag) for _ in range(_ASKED)]
        walked = [
            _milliseconds(lambda: sum(1 for _ in primary.changes(after)))
            for _ in range(3)
        ]
        assert pair.lag().commits >= done
        yield _figure(f"{phase}: lag() at {pending:,} commits", asked, aim=_AIM)
        yield _figure(f"{phase}: walking along {pending:,} commits", walked)


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def _figure(what: str, times: Sequence[float], aim: float | None = None) -> Figure:
    spread = spread_of(times)
    return Figure(
        what=what, value=spread.median, q1=spread.q1, q3=spread.q3, unit="ms", aim=aim
    )
