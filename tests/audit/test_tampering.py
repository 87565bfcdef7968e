"""What is changed in the audit by hand is named, in every store, sealed or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pend_storage._audit_chain import Anchor, newest_seal, seal
from pend_storage._audit_verification import verify_chain
from pend_storage._model.attribution import Actor
from pend_storage._model.audit import Seal, new_entry, seal_id
from pend_storage.records import Row
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from tests.audit.stores import (
    SCHEMA,
    Hand,
    Note,
    edited,
    entry_rows,
    in_database,
    in_directory,
    in_memory,
)


@dataclasses.dataclass(frozen=True)
class Case:
    store: Store
    hand: Hand


@pytest.fixture(params=["memory", "json", "postgres"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A store with entries of three commits."""
    store: Store = MemoryStore(SCHEMA)
    hand: Hand = in_memory
    if request.param == "json":
        store, hand = JsonStore(SCHEMA, tmp_path), in_directory
    elif request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        store, hand = PostgresStore(SCHEMA, url), in_database(url)
        store.migrate()
    for number in range(3):
        store.collection(Note).put(Note(f"{number}", "text"))
    yield Case(store, hand)
    store.close()


def found(store: Store) -> set[tuple[str, str]]:
    return {(p.kind, p.id) for p in verify_chain(store).problems}


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
def test_an_entry_that_is_edited_is_named(case: Case, *, is_sealed: bool) -> None:
    if is_sealed:
        seal(case.store)
    row = entry_rows(case.store, "put")[1]

    case.hand(case.store, row, edited(row))

    assert found(case.store) == {("edited", row.key)}


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
def test_values_that_are_edited_are_named(case: Case, *, is_sealed: bool) -> None:
    if is_sealed:
        seal(case.store)
    row = entry_rows(case.store, "put")[0]
    content = str(row.record.content).replace("text", "tent")

    case.hand(case.store, row, dataclasses.replace(row.record, content=content))

    assert found(case.store) == {("edited", row.key)}


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
def test_an_entry_that_is_deleted_is_named(case: Case, *, is_sealed: bool) -> None:
    if is_sealed:
        seal(case.store)
    row = entry_rows(case.store, "put")[2]

    case.hand(case.store, row, None)

    assert found(case.store) == {("missing", row.key)}


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "unsealed"])
def test_an_entry_that_is_inserted_is_named(case: Case, *, is_sealed: bool) -> None:
    first, second, _ = entry_rows(case.store, "put")
    if is_sealed:
        seal(case.store)
    forged = new_entry(
        f"{first.key}0", "put", Actor("ann"), collection="notes", key="1"
    )

    case.hand(case.store, Row(forged.id, second.version, None), forged)

    assert found(case.store) == {("inserted", forged.id)}


def test_a_seal_that_is_made_anew_is_named(case: Case) -> None:
    seal(case.store, most=1)
    assert found(case.store) == set()
    row = next(r for r in entry_rows(case.store, "seal") if r.key == seal_id(2))
    lost = Seal.from_content(str(row.record.content))._replace(entries=())

    case.hand(
        case.store, row, dataclasses.replace(row.record, content=lost.to_content())
    )

    assert ("edited", seal_id(2)) in found(case.store)


def test_a_seal_that_is_deleted_is_named(case: Case) -> None:
    seal(case.store, most=1)
    row = next(r for r in entry_rows(case.store, "seal") if r.key == seal_id(2))

    case.hand(case.store, row, None)

    assert ("missing", seal_id(2)) in found(case.store)


def test_a_chain_that_ends_before_an_anchor_is_named(case: Case) -> None:
    seal(case.store, most=1)
    newest = newest_seal(case.store)
    assert newest is not None
    anchor = newest.anchor
    assert verify_chain(case.store, anchor=anchor).ok

    wrong = verify_chain(case.store, anchor=Anchor(anchor.number, "0" * 64))
    later = verify_chain(case.store, anchor=Anchor(anchor.number + 1, anchor.digest))

    assert [p.kind for p in wrong.problems] == ["anchor"]
    assert [p.kind for p in later.problems] == ["anchor"]


def test_a_commit_whose_entry_and_log_record_are_gone_is_named(
    postgres_url: str,
) -> None:
    with PostgresStore(SCHEMA, postgres_url) as store:
        store.migrate()
        store.collection(Note).put(Note("a"))
        store.collection(Note).put(Note("b"))
        row = entry_rows(store, "put")[1]
        in_database(postgres_url)(store, row, None)
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "update changes set records = (select json_agg(r) from "
                "json_array_elements(records) as r where r ->> 0 <> 'audit') "
                "where sequence = %s",
                [row.version],
            )

        (problem,) = verify_chain(store).problems

        assert (problem.kind, problem.id) == ("unrecorded", row.key.partition("-")[0])


def test_values_that_vanish_without_an_erasure_are_named(case: Case) -> None:
    from pend_storage._audit_retention import erase

    erase(case.store, "notes", ["1"], author=Actor("dpo"))
    assert found(case.store) == set()
    erasure = entry_rows(case.store, "erase")[0]

    case.hand(
        case.store,
        erasure,
        dataclasses.replace(erasure.record, content='{"entries":[]}'),
    )

    (gone,) = [r for r in entry_rows(case.store, "put") if r.record.erased_at]
    assert ("erased", gone.key) in found(case.store)


@pytest.mark.parametrize(
    "statement",
    [
        "update audit set reason = 'x'",
        "delete from audit",
        "truncate audit",
        "insert into audit select * from audit on conflict (id) do update set reason = 'x'",
    ],
)
def test_the_database_refuses_to_change_entries(
    postgres_url: str, statement: str
) -> None:
    with PostgresStore(SCHEMA, postgres_url) as store:
        store.migrate()
        store.collection(Note).put(Note("a"))

        with (
            psycopg.connect(postgres_url) as connection,
            pytest.raises(psycopg.Error, match="append-only") as refused,
        ):
            connection.execute(statement.encode())

        assert refused.value.sqlstate == "PEND5"
        assert verify_chain(store).problems == []


def test_a_role_of_an_application_adds_entries_and_changes_none(
    new_database: Callable[[], str],
) -> None:
    from pend_storage.stores.postgres._privileges import (
        DatabaseRoles,
        statements,
    )

    url = new_database()
    names = [f"audit_{n}" for n in ("owner", "application", "reader", "archiver")]
    roles = DatabaseRoles(
        owner=names[0], application=names[1], reader=names[2], archiver=names[3]
    )
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements(SCHEMA, roles):
            connection.execute(statement.encode())
        try:
            connection.execute(f"alter role {names[1]} login".encode())
            with PostgresStore(
                SCHEMA, psycopg.conninfo.make_conninfo(url, user=names[1])
            ) as store:
                store.collection(Note).put(Note("a"))
                store.collection(Note).put(Note("a", "again"))
                assert seal(store) == 2
                assert verify_chain(store).ok
            connection.execute(f"set role {names[1]}".encode())
            for change in ("update audit set reason = 'x'", "delete from audit"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(change.encode())
        finally:
            connection.execute("reset role")
            for name in names:
                connection.execute(f"reassign owned by {name} to current_user".encode())
                connection.execute(f"drop owned by {name}".encode())
                connection.execute(f"drop role {name}".encode())
