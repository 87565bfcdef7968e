"""The least privileges of the database's roles are enough, and are no more than that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import pytest
from psycopg import sql
from typing_extensions import override

import pend_storage as ps
from pend_storage.dualwrite import CODES
from pend_storage.errors import ConfigError
from pend_storage.events import Event
from pend_storage.factory import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._privileges import check_privileges
from pend_storage.testing import StoreContract
from pend_storage.testing.domain import SCHEMA, Tally
from tests.contract.test_postgres import TestPostgresStore as PostgresHarness

from .database_roles import RoleSet, new_roles, run

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Note:
    slug: str


def _notes() -> CollectionSpec:
    return ps.collection("notes", Note, key="slug")


@pytest.fixture(scope="module")
def roles(postgres_server: str) -> Iterator[RoleSet]:
    with new_roles(postgres_server) as made:
        yield made


@pytest.fixture
def new_granted_database(
    roles: RoleSet, new_migrated_database: Callable[[Schema], str]
) -> Callable[[Schema], str]:
    """Makes migrated databases with the grants; returns URLs of the superuser."""

    def make(schema: Schema) -> str:
        url = new_migrated_database(schema)
        roles.grant(url, schema)
        return url

    return make


@pytest.fixture
def url(new_granted_database: Callable[[Schema], str]) -> str:
    return new_granted_database(SCHEMA)


def problems(url: str, roles: RoleSet) -> list[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        found = check_privileges(connection, SCHEMA, roles.roles)
    return [f"{p.role}: {p.object}: {p.problem}" for p in found]


# -- the application -------------------------------------------------------------------

PARTS: list[Any] = [
    part
    for part in StoreContract.__bases__
    if part.__name__
    in {
        *("PutContract", "DeleteContract", "CommitEachContract", "UniqueContract"),
        *("TransactionContract", "TokenContract", "ApplyContract", "FollowContract"),
        *("MetaContract", "EpochContract", "PendingContract"),
    }
]
"""The parts that write, lock and follow; the others in long runs."""


class ApplicationHarness(PostgresHarness):
    """The contract's harness, with the application role in the URLs."""

    @pytest.fixture(autouse=True)
    def _granted(
        self, roles: RoleSet, new_granted_database: Callable[[Schema], str]
    ) -> None:
        self._roles = roles
        self._new_database = new_granted_database

    @override
    def make_store(self, schema: Schema) -> Store:
        url = self._new_database(schema)
        return self._open(schema, self._roles.url(url, "application"))


if TYPE_CHECKING:
    Everyday = StoreContract
else:
    Everyday = type("Everyday", tuple(PARTS), {})


class TestApplicationKeepsTheContract(Everyday):
    """The parts of the contract that write, lock and follow."""

    durable: ClassVar[bool] = True
    multi_process: ClassVar[bool] = True
    has_locks: ClassVar[bool] = True

    _databases = PostgresHarness._databases
    _open = PostgresHarness._open
    _granted = ApplicationHarness._granted
    make_store = ApplicationHarness.make_store
    reopen = PostgresHarness.reopen
    peek = PostgresHarness.peek
    opener = PostgresHarness.opener


@pytest.mark.deep
class TestApplicationKeepsTheWholeContract(ApplicationHarness):
    """Everything that a store promises."""


def test_the_parts_of_the_contract_are_still_called_so() -> None:
    assert len(PARTS) == 11


# -- the pair --------------------------------------------------------------------------


def test_the_application_does_everything_that_a_pair_does(
    url: str, roles: RoleSet, tmp_path: Any
) -> None:
    (tmp_path / "data").mkdir()
    events: list[Event] = []
    json = JsonStore(SCHEMA, tmp_path / "data")
    postgres = PostgresStore(SCHEMA, roles.url(url, "application"), hook=events.append)
    postgres.migrate()  # it is current, so there is nothing to change
    with DualWriteStore(json=json, postgres=postgres, compare=1.0) as pair:
        tallies = pair.collection(Tally)
        tallies.put(Tally(name="before", value=1))
        for phase in (Phase.PARALLEL, Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY):
            pair.switch(phase, accept=CODES)
            assert pair.phase is phase
            tallies.put(Tally(name=phase.value, value=2))
            tallies.delete(phase.value)
            pair.catch_up()
        for phase in (Phase.POSTGRES_PRIMARY, Phase.PARALLEL):
            pair.switch(phase, accept=CODES)
            tallies.put(Tally(name=f"back to {phase.value}", value=3))
        pair.backfill()
        run(url, "delete from tallies where name = 'before'")
        assert not pair.validate().ok
        pair.repair()
        assert pair.validate().ok
        pair.switch(Phase.JSON_ONLY, accept=CODES)
        assert tallies.count() == 3


def test_the_application_leaves_the_change_log_to_others_and_reports_it_once(
    url: str, roles: RoleSet
) -> None:
    events: list[Event] = []
    with PostgresStore(
        SCHEMA, roles.url(url, "application"), hook=events.append
    ) as store:
        for name in ("a", "b", "c"):
            store.collection(Tally).put(Tally(name=name, value=1))
        before = list(store.changes())

        store.prune(before[1].sequence)
        store.prune(before[1].sequence)

        assert list(store.changes()) == before
    assert [e.name for e in events].count("prune-refused") == 1


def test_the_archiver_prunes_and_reads_all(url: str, roles: RoleSet) -> None:
    with PostgresStore(SCHEMA, roles.url(url, "application")) as store:
        for name in ("a", "b", "c"):
            store.collection(Tally).put(Tally(name=name, value=1))
    with PostgresStore(SCHEMA, roles.url(url, "archiver")) as store:
        log = list(store.changes())
        store.prune(log[1].sequence)

        assert list(store.changes(log[1].sequence)) == log[2:]
        assert len(list(store.collection(Tally).scan())) == 3
        with pytest.raises(ConfigError, match="permission denied"):
            store.collection(Tally).put(Tally(name="d", value=1))


def test_the_reader_reads_all_and_writes_nothing(url: str, roles: RoleSet) -> None:
    with PostgresStore(SCHEMA, roles.url(url, "application")) as store:
        store.collection(Tally).put(Tally(name="a", value=1))
        store.compare_and_set_meta("x", None, 1)
    with PostgresStore(SCHEMA, roles.url(url, "reader")) as store:
        assert store.meta("x") == 1
        assert len(list(store.changes())) == 1
        assert store.pending(0).commits == 1
        assert store.head() > 0
        assert store.incarnation()
        assert store.inspect().is_current
        assert [len(list(store.scan(s.name))) for s in SCHEMA].count(1) == 1
        for write in (
            lambda: store.collection(Tally).put(Tally(name="b", value=1)),
            lambda: store.apply([]),
            lambda: store.compare_and_set_meta("x", 1, 2),
            lambda: store.migrate(drop=True, drop_empty=True),
        ):
            with pytest.raises(ConfigError, match="permission denied"):
                write()


# -- refusals --------------------------------------------------------------------------

DDL = (
    "create table mine (a int)",
    "create function mine() returns int language sql as 'select 1'",
    "alter table tallies add mine int",
    "drop table tallies",
    "truncate changes",
    "truncate tallies",
    (
        "create or replace function pend_guard(_epoch$ bigint) returns boolean "
        "language sql as 'select true'"
    ),
    "create temp table mine (a int)",
    "create schema mine",
    "alter table changes disable trigger all",
)
LOCK = "do $$ begin lock table changes in access exclusive mode; end $$"
LOG = ("update changes set records = '[]'", "update changes set \"by\" = 'x'")
WRITES = (
    "insert into tallies (name, value, version) values ('x', 1, 1)",
    "update tallies set value = 2",
    "delete from tallies",
    "delete from tombstones",
    "insert into changes (sequence, epoch, at, records) values (1, 1, now(), '[]')",
)
REFUSED = {
    "application": (*DDL, *LOG, LOCK, "delete from changes"),
    "reader": (
        *DDL,
        LOCK,
        *LOG,
        *WRITES,
        "delete from changes",
        "update store_meta set value = '1'",
        "select pend_renumber()",
        "select pend_apply_enter(0, null, null)",
    ),
    "archiver": (*DDL, *LOG, *WRITES, "select pend_renumber()"),
}


@pytest.mark.parametrize("role", list(REFUSED))
def test_each_role_is_refused_what_it_may_not(
    role: str, url: str, roles: RoleSet
) -> None:
    with psycopg.connect(roles.url(url, role), autocommit=True) as connection:
        for statement in REFUSED[role]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_another_role_of_the_server_does_not_get_in(url: str, roles: RoleSet) -> None:
    other = f"{roles.roles.reader} else"
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(other)
        connection.execute(sql.SQL("create role {} login password 'x'").format(name))
        try:
            theirs = psycopg.conninfo.make_conninfo(url, user=other, password="x")  # noqa: S106
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                psycopg.connect(theirs)
        finally:
            connection.execute(sql.SQL("drop role {}").format(name))


# -- the check -------------------------------------------------------------------------


def test_what_is_granted_is_exactly_what_is_checked(url: str, roles: RoleSet) -> None:
    assert problems(url, roles) == []


def test_the_owner_migrates_and_new_objects_are_covered(
    roles: RoleSet, url: str
) -> None:
    more = Schema([*SCHEMA.declared, _notes()])
    with PostgresStore(more, roles.url(url, "owner")) as store:
        store.migrate()
    with PostgresStore(more, roles.url(url, "application")) as store:
        store.collection("notes").put(Note(slug="a"))
        assert store.collection("notes").delete("a")
    with PostgresStore(more, roles.url(url, "reader")) as store:
        assert store.collection("notes").get("a") is None


DIFFERENCES = {
    "grant update on changes to {application}": "table changes: has update",
    "grant trigger on store_meta to public": "public: table store_meta: has trigger",
    "revoke insert on changes from {application}": "table changes: lacks insert",
    "grant insert on tallies to {reader}": "table tallies: has insert",
    "revoke select on tallies from {archiver}": "table tallies: lacks select",
    "grant create on schema public to public": "public: schema public: has create",
    "grant execute on function pend_renumber() to public": "pend_renumber: has execute",
    "revoke execute on function pend_found from {reader}": "pend_found: lacks execute",
    "alter table berths owner to current_user": "is the owner, not",
    "alter role {application} createrole": "may do more",
    "drop function pend_kept": "function pend_kept: the function does not exist",
    "drop table tombstones": "table tombstones: the table does not exist",
}


def test_the_check_names_what_differs(
    new_database: Callable[[], str], roles: RoleSet
) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
    roles.grant(url, SCHEMA)
    names = {r: f'"{n.replace(chr(34), chr(34) * 2)}"' for r, n in _names(roles)}
    try:
        run(url, *(change.format(**names) for change in DIFFERENCES))
        listed = problems(url, roles)
    finally:
        run(url, f"alter role {names['application']} nocreaterole")

    for change, found in DIFFERENCES.items():
        assert any(found in problem for problem in listed), (change, listed)


def _names(roles: RoleSet) -> list[tuple[str, str]]:
    kinds = ("owner", "application", "reader", "archiver")
    return [(kind, getattr(roles.roles, kind)) for kind in kinds]
