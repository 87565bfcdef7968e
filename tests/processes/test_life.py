"""Real processes on real stores, through every disaster and phase: all promises hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pend_storage.phases import Phase
from pend_storage.testing.proxy import Proxy
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres

from .company import Company, Conductor, wait_until
from .history import Operation, operations
from .judging import (
    Logs,
    everything,
    linearity_faults,
    log_faults,
    pair_faults,
    undue_failures,
)
from .places import PATIENCE, Place
from .weather import KINDS, Weather
from .workers import QUIET, STOP

LINES = 2
CONVERGING = 30.0
"""Seconds in which the stores must become equal by themselves."""
QUIET_LOOKS = 50
"""Looks, of 20 ms at least, for which nothing changes once they are equal."""


@dataclass(frozen=True)
class Size:
    """Size of a run."""

    writers: int
    readers: int
    changes: int
    """Of phase."""
    pause: float
    """Seconds between two disasters, on average."""
    canary: float = 0.0
    """Share of the keys whose reads the secondary answers."""


SMALL = Size(writers=3, readers=2, changes=12, pause=0.5)
CANARY = replace(SMALL, changes=6, canary=1.0)
FULL = Size(writers=6, readers=4, changes=60, pause=1.0)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """One of our own, because it is going to crash; the machine is not."""
    settings = {"fsync": "off", "full_page_writes": "off"}
    with temporary_postgres(settings=settings, listen="127.0.0.1") as server:
        yield server


def a_walk(changes: int, chance: random.Random) -> list[Phase]:
    """Phases one after the other, from json-only on; the last one keeps two stores."""
    order = list(Phase)
    place, walk = 0, []
    for left in range(changes, 0, -1):
        ways = [way for way in (-1, 1) if 0 <= place + way < len(order)]
        if left == 1 and place in {0, 3}:
            ways = [1 if place == 0 else -1]
        elif left == 1:
            ways = [1 if place == 1 else -1]  # from one of two stores to the other
        place += chance.choice(ways)
        walk.append(order[place])
    return walk


def live(
    server: EmbeddedPostgres, root: Path, size: Size, seed: int, stack: ExitStack
) -> tuple[Weather, Place]:
    """Let everything happen until all changes of phase are made, and stay open."""
    chance = random.Random(seed)
    url = server.create_database(f"life_{seed}")
    direct = Place(root, url, canary=size.canary)
    with direct.postgres() as postgres:
        postgres.migrate()
    lines = [stack.enter_context(Proxy(*server.tcp_address)) for _ in range(LINES)]
    urls = [urlsplit(line.through(server.tcp_url)) for line in lines]
    places = [
        replace(direct, url=url._replace(path=f"/life_{seed}").geturl()) for url in urls
    ]
    company = Company(places)
    stack.callback(company.close)
    company.hire(size.writers, size.readers)
    conductor = Conductor(places[0], a_walk(size.changes, chance))
    stack.callback(conductor.close)
    weather = Weather(server, lines, company, conductor, chance)
    # Deaths first: a quick machine may be through before everything has struck.
    kinds = ["kill_conductor", "kill"]
    deadline = time.monotonic() + PATIENCE + 5.0 * size.changes
    while not conductor.has_ended():
        assert time.monotonic() < deadline, f"stuck: {conductor.trouble()}"
        time.sleep(chance.uniform(0, 2 * size.pause))
        kinds = kinds or chance.sample(KINDS, len(KINDS))
        weather.strike(kinds.pop())
    conductor.finish()
    return weather, direct


def wait_until_equal(place: Place) -> None:
    """Only the relays of the running processes do the work."""
    with place.json() as json, place.postgres() as postgres:
        seen: list[Any] = []

        def is_equal_and_quiet() -> bool:
            """A commit under way may end after a look that shows equal stores."""
            seen.append(everything(json))
            if seen[-1] != everything(postgres):
                seen.clear()
            return len(seen) > QUIET_LOOKS and seen[-1] == seen[-1 - QUIET_LOOKS]

        wait_until(is_equal_and_quiet, "the stores become equal", CONVERGING)


def assert_promises_kept(
    calls: list[Operation], weather: Weather, place: Place, changes: int
) -> None:
    with place.json() as json, place.postgres() as postgres:
        rows, logs = everything(json), Logs.of(json, postgres)
        assert rows == everything(postgres)
    told = weather.conductor.told()
    assert log_faults(calls, logs) == []
    assert linearity_faults(calls) == []
    assert pair_faults(rows) == []
    assert undue_failures(calls, weather.outages, told) == []
    assert weather.conductor.done == changes


def assert_enough_happened(
    calls: list[Operation], weather: Weather, size: Size
) -> None:
    done = [call for call in calls if call.outcome == "done"]
    assert len(done) > 20 * size.changes, "too little to prove anything"
    assert {call.kind for call in done} == {"read", "write"}
    assert weather.company.kills
    assert weather.conductor.kills


@pytest.mark.parametrize(
    ("size", "seed"),
    [
        pytest.param(SMALL, 1, id="small", marks=pytest.mark.slow),
        pytest.param(CANARY, 2, id="canary", marks=pytest.mark.slow),
        *[
            pytest.param(FULL, seed, id=f"full-{seed}", marks=pytest.mark.deep)
            for seed in (11, 12, 13)
        ],
    ],
)
def test_nothing_is_lost_whatever_happens(
    server: EmbeddedPostgres,
    tmp_path: Path,
    size: Size,
    seed: int,
    record_property: Callable[[str, object], None],
) -> None:
    with ExitStack() as stack:
        weather, place = live(server, tmp_path, size, seed, stack)
        place.signal(QUIET).touch()
        wait_until_equal(place)
        place.signal(STOP).touch()
        reports = weather.company.finish()

    calls = operations(place.histories)
    record_property("calls", len(calls))
    record_property("disasters", weather.happened)
    assert [report for report in reports if report not in {"ready", ()}] == []
    assert_enough_happened(calls, weather, size)
    assert_promises_kept(calls, weather, place, size.changes)
