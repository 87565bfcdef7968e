"""The schedules on which other dual writers fail, sized down, over both real stores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT))  # they are part of the repository, not of the package

from benchmarks.contenders.pair import dual_store  # noqa: E402
from benchmarks.record import SCHEMA, Account, accounts, revised  # noqa: E402
from benchmarks.schedules.alarms import compare_ours, writing  # noqa: E402
from benchmarks.schedules.pairs import left_different, write_pairs  # noqa: E402
from pend_storage.phases import Phase  # noqa: E402
from pend_storage.records import ChangedRecord  # noqa: E402
from pend_storage.schema import Schema  # noqa: E402
from pend_storage.stores.json import JsonStore  # noqa: E402
from pend_storage.stores.memory import MemoryStore  # noqa: E402
from pend_storage.stores.postgres import PostgresStore  # noqa: E402

PAIRS = 100
READS = 1_000
BOTH = [Phase.PARALLEL, Phase.POSTGRES_PRIMARY]


@pytest.fixture
def json(tmp_path: Path) -> Iterator[JsonStore]:
    with JsonStore(SCHEMA, tmp_path) as store:
        yield store


@pytest.fixture
def postgres(
    new_migrated_database: Callable[[Schema], str],
) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as store:
        yield store


@pytest.mark.parametrize("phase", BOTH)
def test_writers_of_one_key_at_one_moment_leave_the_stores_alike(
    json: JsonStore, postgres: PostgresStore, phase: Phase
) -> None:
    with dual_store(
        json, postgres, phase, secondary_timeout=None, relay_interval=None
    ) as store:
        write_pairs(store.collection(Account).put, PAIRS)

        assert store.collection(Account).count() == PAIRS
        assert left_different(json, postgres) == []


@pytest.mark.parametrize("phase", BOTH)
def test_a_live_writer_raises_no_false_alarm(
    json: JsonStore, postgres: PostgresStore, phase: Phase
) -> None:
    with dual_store(json, postgres, phase, compare=1.0) as store:
        with writing(store) as written:
            confirmed = compare_ours(store, READS)
            assert written() > 0

        assert confirmed == 0
        assert store.divergences() == ()


def test_the_schedules_see_what_is_different_and_alarm_where_it_stays() -> None:
    first, second = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    with dual_store(first, second, Phase.PARALLEL, compare=1.0) as store:
        account = accounts(1)[0]
        store.collection(Account).put(account)
        version = first.read("accounts", [account.id])[account.id].version
        spoil(second, revised(account, 1), version + 1)

        assert left_different(first, second) == [account.id]
        assert compare_ours(store, 1) == 1


def spoil(store: MemoryStore, account: Account, version: int) -> None:
    """A record that differs from the primary's, which no switch and no relay would make."""
    store.apply(
        [ChangedRecord("accounts", account.id, version, account)],
        epoch=store.role().epoch,
    )
