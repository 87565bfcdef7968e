"""A pair whose database fails over, is put back, or is a directory that was exchanged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres
from pend_storage.validation import validate

from .activity import run, wait_until
from .failover import either, promote, standby_of
from .test_dualwrite_servers import living, name_of

pytestmark = pytest.mark.timeout(120)


class Pair:
    """A pair, and its events."""

    def __init__(self, json: Any, postgres: Any) -> None:
        self.events: list[Event] = []
        self.store = DualWriteStore(
            json=json,
            postgres=postgres,
            relay_interval=0.1,
            secondary_timeout=None,
            compare=0.0,
            backfill=backfill,
            validate=validate,
            hook=self.events.append,
        )

    def put(self, key: str, text: str) -> None:
        self.store.collection(Log).put(a_log(key, text))

    @property
    def told(self) -> set[str]:
        return {event.name for event in self.events}


@pytest.fixture
def servers() -> Iterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """A primary with the tables, and its standby."""
    with temporary_postgres(settings={"fsync": "off"}) as primary:
        with PostgresStore(SCHEMA, primary.url) as store:
            store.migrate()
        with standby_of(primary) as standby:
            yield primary, standby


def cut_off(standby: EmbeddedPostgres) -> None:
    run(standby.url, "alter system set primary_conninfo = ''")
    run(standby.url, "select pg_reload_conf()")
    wait_until(
        lambda: not run(standby.url, "select 1 from pg_stat_wal_receiver"),
        "the end of the replication",
    )


def catch_up(primary: EmbeddedPostgres, standby: EmbeddedPostgres) -> None:
    ((place,),) = run(primary.url, "select pg_current_wal_flush_lsn()::text")
    wait_until(
        lambda: (
            run(standby.url, f"select pg_last_wal_replay_lsn() >= '{place}'::pg_lsn")
            == [(True,)]
        ),
        "the standby",
    )


def fail_over(old: EmbeddedPostgres, new: EmbeddedPostgres) -> None:
    """No connection breaks: the old one takes no writes any more."""
    promote(new)
    run(old.url, "alter system set default_transaction_read_only = on")
    run(old.url, "select pg_reload_conf()")


@pytest.mark.parametrize("phase", [Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY])
def test_a_standby_that_was_behind_is_refused_and_nothing_is_undone(
    tmp_path: Path, servers: tuple[EmbeddedPostgres, EmbeddedPostgres], phase: Phase
) -> None:
    old, new = servers
    url = either(old, new)
    pair = Pair(JsonStore(SCHEMA, tmp_path / "data"), PostgresStore(SCHEMA, url))
    pair.store.switch(phase, accept=CODES)
    pair.put("a", "1")
    catch_up(old, new)
    cut_off(new)
    pair.put("a", "lost")
    pair.put("b", "lost")
    pair.store.catch_up()

    fail_over(old, new)

    wait_until(lambda: _is_refused(pair), "the refusal")
    assert {"server-changed", "primary-rewound"} <= pair.told
    with pytest.raises(ConfigError, match="elect"):
        pair.store.switch(Phase.PARALLEL, accept=CODES)
    pair.store.close()
    with (
        JsonStore(SCHEMA, tmp_path / "data") as json,
        PostgresStore(SCHEMA, url) as postgres,
    ):
        with pytest.raises(ConfigError, match=r"number \d+.*elect"):
            DualWriteStore(json=json, postgres=postgres)
        if phase is Phase.POSTGRES_PRIMARY:
            assert json.collection(Log).get("b") == a_log("b", "lost")


def _is_refused(pair: Pair) -> bool:
    try:
        pair.put("c", "after")
    except ConfigError:
        return True
    except Exception:  # noqa: BLE001 - in the middle of the failover
        return False
    return False


@pytest.mark.parametrize("phase", [Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY])
def test_a_standby_that_has_everything_goes_on(
    tmp_path: Path, servers: tuple[EmbeddedPostgres, EmbeddedPostgres], phase: Phase
) -> None:
    old, new = servers
    postgres = PostgresStore(SCHEMA, either(old, new))
    pair = Pair(JsonStore(SCHEMA, tmp_path / "data"), postgres)
    pair.store.switch(phase, accept=CODES)
    pair.put("a", "1")
    pair.store.catch_up()
    catch_up(old, new)
    before = postgres.incarnation()

    fail_over(old, new)

    # The old server takes writes for a moment longer: its processes read the changed
    # setting one after another.
    wait_until(
        lambda: _is_done(pair) and "server-changed" in pair.told,
        "a write on the new server, and the event",
    )
    assert postgres.incarnation() != before
    assert "primary-rewound" not in pair.told
    pair.store.switch(Phase.PARALLEL, accept=CODES)
    pair.put("b", "2")
    pair.store.catch_up()
    assert living(pair.store._pair.json) == living(pair.store._pair.postgres)
    assert pair.store.validate().ok
    pair.store.close()


def _is_done(pair: Pair) -> bool:
    try:
        pair.put("a", "2")
    except Exception:  # noqa: BLE001 - in the middle of the failover
        return False
    return True


def test_a_database_that_was_put_back_behind_json_is_refused(
    tmp_path: Path, databases: Databases, new_migrated_database: Any
) -> None:
    """In postgres-only nothing follows it; the detached directory is the witness."""
    url = new_migrated_database(SCHEMA)

    def opened(address: str) -> Pair:
        json = JsonStore(SCHEMA, tmp_path / "data")
        return Pair(json, PostgresStore(SCHEMA, address))

    pair = opened(url)
    pair.store.switch(Phase.POSTGRES_ONLY, accept=CODES)
    pair.put("a", "1")
    pair.store.close()
    backup = databases.make(template=name_of(url))
    pair = opened(url)
    pair.put("a", "2")
    pair.store.close()

    with pytest.raises(ConfigError, match=r"number \d+.*elect"):
        opened(backup)

    again = opened(url)
    again.put("a", "3")
    again.store.close()


def test_a_directory_that_was_put_back_is_refused_and_one_that_was_moved_goes_on(
    tmp_path: Path,
) -> None:
    home, copy, moved = (tmp_path / name for name in ("data", "copy", "moved"))

    class Kept(MemoryStore):
        @override
        def close(self) -> None:
            """It outlives the pair, as a server does."""

    postgres = Kept(SCHEMA)

    def opened(directory: Path) -> Pair:
        json = JsonStore(SCHEMA, directory)
        try:
            return Pair(json, postgres)
        except ConfigError:
            json.close()
            raise

    pair = opened(home)
    pair.put("a", "1")
    pair.store.close()
    shutil.copytree(home, copy)
    pair = opened(home)
    pair.put("a", "2")
    pair.store.close()
    shutil.copytree(home, moved)
    shutil.rmtree(home)

    with pytest.raises(ConfigError, match=r"number \d+.*elect"):
        opened(copy)
    pair = opened(moved)
    assert "server-changed" in pair.told
    pair.put("a", "3")
    pair.store.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
    assert pair.store.collection(Log).get("a") == a_log("a", "3")
    pair.store.close()
