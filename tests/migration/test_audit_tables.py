"""A database of the version without audit is taken along, and is closed to that version."""

from __future__ import annotations

from importlib import import_module

import pytest

from pend_storage._audit_chain import seal
from pend_storage._audit_record import record
from pend_storage._audit_verification import verify_chain
from pend_storage.errors import SchemaOutOfDate
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import Tally
from tests.migration.older import make_older, run
from tests.migration.test_sequence_numbers import SCHEMA

MIGRATION = import_module("pend_storage.migrations.versions.0005_audit")


@pytest.fixture
def old(postgres_url: str) -> str:
    """A database of revision 0004, with a record."""
    make_older(postgres_url, SCHEMA, "0004")
    body = '{"name":"t","value":1}'
    run(
        postgres_url,
        "select pend_put_tallies(null, 't', %s, null, null, null, null, false, null, false)",
        body,
    )
    return postgres_url


def test_it_gets_the_audit_by_its_migration(old: str) -> None:
    with PostgresStore(SCHEMA, old) as store:
        with pytest.raises(SchemaOutOfDate, match="migrate"):
            store.collection(Tally).count()
        store.migrate()

        assert store.collection(Tally).get("t") == Tally(name="t", value=1)
        record(store, "switch", by="ann", reason=None)
        assert seal(store) == 1
        assert verify_chain(store).ok
    ((triggers,),) = run(
        old, "select count(*) from pg_trigger where tgname like 'pend_audit_%'"
    )
    assert triggers == 2


def test_it_is_not_taken_back() -> None:
    with pytest.raises(SchemaOutOfDate, match="cannot be taken back"):
        MIGRATION.downgrade()
