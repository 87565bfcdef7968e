"""A database is looked at by a role that may only read its tables, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import field
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PassivePostgresStore, PostgresStore
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from tests.integration.test_postgres_changes import commit_under_way, open_transaction
from tests.security.database_roles import reader_of

_INSERT = Statement(b"insert into public.store_meta values ('planted', '1')")


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    """A primary with some commits, a tombstone, and entries that were pruned."""
    with PostgresStore(SCHEMA, url) as made:
        role = RoleState(Role.PRIMARY, 3).to_meta()
        made.compare_and_set_meta(ROLE_META, None, role)
        for n in range(8):
            made.collection(Log).put(a_log(f"l{n}"))
        made.prune(next(made.changes()).sequence)
        made.collection(Tally).put_many([a_tally("t", 3), a_tally("u", 4)])
        made.collection(Tally).delete("u")
        yield made


@pytest.fixture
def reader_url(url: str, store: PostgresStore) -> Iterator[str]:
    """URL of a role that may read every table, and call no function of the library."""
    with reader_of(url) as made:
        with (
            psycopg.connect(made) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("select public.pend_guard(3)")
        yield made


@pytest.fixture(params=[None, "transaction"], ids=["direct", "pooled"])
def reader(
    request: pytest.FixtureRequest, reader_url: str
) -> Iterator[PassivePostgresStore]:
    with PassivePostgresStore(SCHEMA, reader_url, pooler=request.param) as made:
        yield made


def everything(store: PostgresStore) -> list[object]:
    """All that a reader can ask of a store."""
    logs = store.collection(Log)
    first = next(store.changes(_start(store)))
    return [
        store.role(),
        store.incarnation(),
        store.meta(ROLE_META),
        store.meta("nothing"),
        list(store.changes(_start(store))),
        store.pending(first.sequence),
        store.pending(first.sequence - 1),
        list(store.scan("logs", deleted=True)),
        list(store.scan("tallies", deleted=True)),
        store.read("tallies", ["t", "u"], deleted=True),
        logs.get("l3"),
        logs.get_many(["l3", "l4", "none"]),
        logs.count(),
        logs.count(field("id") == "l4"),
        logs.find(order_by=["-id"], limit=3).items,
        list(store.record_history("tallies", "u")),
        store.find_commit(first.token or ""),
        store.unread_files(),
        store.together((), [("logs", field("id") == "l1")]),
    ]


def _start(store: PostgresStore) -> int:
    try:
        next(store.changes())
    except ChangesExpired as expired:
        return expired.oldest
    return 0


def test_it_answers_as_the_store_itself(
    store: PostgresStore, reader: PassivePostgresStore
) -> None:
    reader.require_readable()

    assert everything(reader) == everything(store)
    assert reader.head() >= next(store.changes(_start(store))).sequence


def test_the_log_expires_alike(
    store: PostgresStore, reader: PassivePostgresStore
) -> None:
    asks: list[Callable[[PostgresStore], object]] = [
        lambda s: next(s.changes()),
        lambda s: s.pending(0),
    ]
    for ask in asks:
        with pytest.raises(ChangesExpired) as theirs:
            ask(store)
        with pytest.raises(ChangesExpired) as mine:
            ask(reader)
        assert (mine.value.after, mine.value.oldest) == (
            theirs.value.after,
            theirs.value.oldest,
        )


def test_the_log_is_not_read_past_a_commit_that_is_under_way(
    url: str, store: PostgresStore, reader: PassivePostgresStore
) -> None:
    with commit_under_way(url, "slow") as slow:
        store.collection(Tally).put(a_tally("quick"))
        start = _start(store)
        seen = [r.key for c in reader.changes(start) for r in c.records]
        assert "quick" not in seen
        slow.commit()

    after = [r.key for c in reader.changes(start) for r in c.records]
    assert {"quick", "slow"} <= set(after)


def test_the_whole_log_of_a_secondary_is_read_under_open_transactions(
    url: str, store: PostgresStore, reader: PassivePostgresStore
) -> None:
    found = store.meta(ROLE_META)
    role = RoleState(Role.SECONDARY, 3).to_meta()
    with open_transaction(url):
        store.collection(Tally).put(a_tally("last"))
        assert store.compare_and_set_meta(ROLE_META, found, role)
        seen = [r.key for c in reader.changes(_start(store)) for r in c.records]

    assert seen[-1] == "last"


CHANGES: dict[str, Callable[[Any], object]] = {
    "put": lambda s: s.collection(Log).put(a_log("x")),
    "meta": lambda s: s.compare_and_set_meta("a", None, 1),
    "apply": lambda s: s.apply(()),
    "prune": lambda s: s.prune(3),
    "purge": lambda s: s.purge("logs", ["l1"]),
    "load_changes": lambda s: s.load_changes(()),
    "load_snapshot": lambda s: s.load_snapshot(()),
    "reserve_numbers": lambda s: s.reserve_numbers(99),
    "hold_log": lambda s: s.hold_log(lambda: None),
    "lock": lambda s: s.lock("name", 1.0).__enter__(),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_would_change_something_is_refused(reader_url: str, change: str) -> None:
    with (
        PassivePostgresStore(SCHEMA, reader_url) as reader,
        pytest.raises(ConfigError, match="open for reading only"),
    ):
        CHANGES[change](reader)


@pytest.mark.parametrize("pooler", [None, "transaction"])
def test_the_server_itself_refuses_a_write_of_a_user_who_may_write(
    url: str, store: PostgresStore, pooler: Any
) -> None:
    with PassivePostgresStore(SCHEMA, url, pooler=pooler) as reader:
        with pytest.raises(PendStorageError, match="read-only"):
            reader._client.fetch(_INSERT)
        assert reader.collection(Log).count() == 8  # and it reads on

    assert store.meta("planted") is None


def test_a_store_without_an_identity_does_not_get_one(url: str) -> None:
    with PassivePostgresStore(SCHEMA, url) as reader:
        assert reader.identity() == ""
        with PostgresStore(SCHEMA, url) as store:
            made = store.identity()
        assert reader.identity() == ""  # until the next look
        reader.refresh()
        assert reader.identity() == made


def test_an_address_that_wants_a_server_for_writes_leads_to_the_primary(
    reader_url: str,
) -> None:
    wanted = f"{reader_url}{'&' if '?' in reader_url else '?'}"
    with PassivePostgresStore(
        SCHEMA, f"{wanted}target_session_attrs=read-write"
    ) as reader:
        assert reader.collection(Log).count() == 8


# -- what a role cannot see ---------------------------------------------------------------


def user_of(url: str) -> sql.Identifier:
    return sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))


def run(url: str, text: str, role: sql.Identifier) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(text).format(role))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "revoke select on logs, quarantine from {}",
            "the tables quarantine, logs|the tables logs, quarantine",
        ),
        ("revoke select on changes from {}", "the tables changes,"),
        ("revoke select on store_meta from {}", "permission denied"),
        ("revoke usage on schema public from {}, public", "may not use the schema"),
    ],
)
def test_what_it_lacks_is_a_sentence(
    url: str, reader_url: str, text: str, says: str
) -> None:
    run(url, text, user_of(reader_url))
    try:
        with (
            PassivePostgresStore(SCHEMA, reader_url) as reader,
            pytest.raises(ConfigError, match=says),
        ):
            reader.require_readable()
    finally:
        run(url, "grant usage on schema public to {}, public", user_of(reader_url))


def test_a_database_that_was_never_migrated_is_a_sentence(
    new_database: Callable[[], str],
) -> None:
    with (
        PassivePostgresStore(SCHEMA, new_database()) as reader,
        pytest.raises(SchemaOutOfDate, match="never been migrated"),
    ):
        reader.require_readable()


def test_a_server_that_is_away_is_a_sentence() -> None:
    with (
        PassivePostgresStore(SCHEMA, "postgresql://127.0.0.1:1/none") as reader,
        pytest.raises(StoreUnavailable),
    ):
        reader.require_readable()


# -- what a look costs --------------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that each statement of this process returns."""
    found: list[int] = []
    real = LibpqConnection.execute

    def counted(self: LibpqConnection, statement: Statement, values: Any = ()) -> Any:
        result = real(self, statement, values)
        found.append(result.ntuples)
        return result

    monkeypatch.setattr(LibpqConnection, "execute", counted)
    return found


def test_values_are_read_together_and_kept_until_the_next_look(
    store: PostgresStore, reader_url: str, statements: list[int]
) -> None:
    with PassivePostgresStore(SCHEMA, reader_url) as reader:
        reader.role()
        statements.clear()
        for name in ("role", "identity", "shared", "nothing"):
            reader.meta(name)
        assert statements == []
        store.compare_and_set_meta("later", None, 1)
        assert reader.meta("later") is None
        statements.clear()
        reader.refresh()

        assert reader.meta("later") == 1
        assert len(statements) == 1
        reader.incarnation(), reader.incarnation()
        assert len(statements) == 2


def test_a_look_counts_only_what_is_new_however_much_is_pending(
    url: str, store: PostgresStore, reader_url: str, statements: list[int]
) -> None:
    mark = list(store.changes(_start(store)))[-1].sequence
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into changes (sequence, epoch, at, records) select %s + n, 3, "
            "now(), '[]' from generate_series(1, 30000) as n",
            (mark,),
        )
    with PassivePostgresStore(SCHEMA, reader_url) as reader:
        first = reader.pending(mark)
        statements.clear()
        for _ in range(5):
            assert reader.pending(mark) == first

        assert first.commits == 30_000
        assert statements == [1] * 5
