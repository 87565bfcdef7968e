"""The soak's own checker: it finds what leaks, and nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pend_storage.schema import Schema
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally, a_tally

from .growth import FEWEST, Sample, Tolerance, growth
from .leaky import Leak
from .server import Plan
from .soaking import Soaked, left_different, soak

THREADS = {"threads": Tolerance(6.0)}


def samples(level: Callable[[int], float], count: int = 400) -> list[Sample]:
    return [Sample(float(n), {"threads": level(n)}) for n in range(count)]


class TestGrowth:
    def test_what_breathes_does_not_grow(self) -> None:
        chance = random.Random(3)

        assert growth(samples(lambda _: 20 + chance.randrange(-8, 9)), THREADS) == {}

    def test_what_fills_during_the_warm_up_does_not_grow(self) -> None:
        assert growth(samples(lambda n: min(n, 60.0)), THREADS) == {}

    def test_a_spike_is_not_growth_wherever_it_is(self) -> None:
        assert growth(samples(lambda n: 500.0 if n > 380 else 20.0), THREADS) == {}

    def test_one_a_minute_is_found_in_half_an_hour_under_noise(self) -> None:
        chance = random.Random(3)

        found = growth(
            samples(lambda n: 20 + 30 * n / 400 + chance.randrange(-8, 9)), THREADS
        )

        assert "threads" in found

    def test_a_late_step_is_found_though_most_slopes_are_none(self) -> None:
        assert growth(samples(lambda n: 20.0 if n < 330 else 30.0), THREADS)

    def test_a_slow_rise_is_found_though_the_thirds_are_close(self) -> None:
        assert growth(samples(lambda n: 20 + 10 * n / 400), THREADS)

    def test_what_shrinks_does_not_grow(self) -> None:
        assert growth(samples(lambda n: 100.0 - n / 10), THREADS) == {}

    def test_a_large_level_may_move_by_its_share(self) -> None:
        level = samples(lambda n: 1_000.0 + 100 * n / 400)

        assert growth(level, {"threads": Tolerance(6.0, 0.15)}) == {}
        assert growth(level, {"threads": Tolerance(6.0, 0.05)})

    def test_too_few_samples_are_refused(self) -> None:
        with pytest.raises(ValueError, match="samples tell nothing"):
            growth(samples(float, FEWEST), THREADS)

    def test_a_value_that_nobody_took_is_refused(self) -> None:
        with pytest.raises(ValueError, match="without tasks"):
            growth(samples(float), {"tasks": Tolerance(1.0)})


def a_short_soak(
    directory: Path, new_database: Callable[[Schema], str], *leaks: Leak
) -> Soaked:
    return soak(
        Plan(
            directory=directory,
            url=new_database(SCHEMA),
            application=f"soak {os.getpid()}",
            seconds=5.0,
            between_samples=0.15,
            between_phases=0.7,
            clients=8,
            calls=20.0,
            leaks=frozenset(leaks),
            least_samples=2 * FEWEST,
            least_leaks={
                leak: 15 if leak in {"connections", "writes"} else 40 for leak in leaks
            },
        )
    )


@pytest.mark.slow
class TestLeaks:
    @pytest.mark.parametrize(
        ("leaks", "also"),
        [
            (("resident MiB", "open files", "threads"), set()),
            (("connections", "tasks"), {"open files"}),  # a connection is a file, too
        ],
        ids=["memory, files and threads", "connections and tasks"],
    )
    def test_what_leaks_is_found_and_nothing_else(
        self,
        leaks: tuple[Leak, ...],
        also: set[str],
        tmp_path: Path,
        new_migrated_database: Any,
    ) -> None:
        soaked = a_short_soak(tmp_path, new_migrated_database, *leaks)

        assert set(growth(soaked.samples)) == {*leaks, *also}
        assert soaked.verdict.lost == []
        assert soaked.verdict.errors == []
        assert soaked.different == []
        assert soaked.verdict.phases > 0
        assert len(soaked.verdict.calls) == 8

    def test_a_write_that_was_acknowledged_and_not_made_is_found(
        self, tmp_path: Path, new_migrated_database: Any
    ) -> None:
        soaked = a_short_soak(tmp_path, new_migrated_database, "writes")

        assert soaked.verdict.lost


def test_stores_that_differ_are_found(
    tmp_path: Path, new_migrated_database: Any
) -> None:
    url = new_migrated_database(SCHEMA)
    for store in (JsonStore(SCHEMA, tmp_path), PostgresStore(SCHEMA, url)):
        with store:
            is_json = isinstance(store, JsonStore)
            tallies = store.collection(Tally)
            tallies.put_many([a_tally("equal", 1), a_tally("other", int(is_json))])
            if is_json:
                tallies.put(a_tally("only here", 1))

    found = left_different(tmp_path, url)

    assert {"tallies other", "tallies only here"} <= set(found)
