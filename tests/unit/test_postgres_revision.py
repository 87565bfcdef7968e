"""Revision of a schema: what each new connection compares with the database's."""

from __future__ import annotations

from pend_storage.stores.postgres._client.schema_revision import Revision
from pend_storage.testing.domain import SCHEMA


def test_a_new_connection_does_not_compute_the_revision_again() -> None:
    assert Revision.of(SCHEMA) is Revision.of(SCHEMA)
