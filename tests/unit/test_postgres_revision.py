"""Revision of a schema: what each new connection compares with the database's."""

from __future__ import annotations

import pytest

from pend_storage.schema import Schema
from pend_storage.stores.postgres._client import schema_revision
from pend_storage.stores.postgres._client.schema_revision import Revision
from pend_storage.testing.domain import SCHEMA


def test_a_new_connection_does_not_compute_the_texts_of_functions_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = Schema(SCHEMA.declared)
    first = Revision.of(schema)
    monkeypatch.setattr(schema_revision, "digest", lambda _: pytest.fail("again"))

    assert Revision.of(schema) == first


def test_schemas_have_revisions_of_their_own() -> None:
    smaller = Schema(SCHEMA.declared[:1])

    assert Revision.of(smaller) != Revision.of(SCHEMA)
    assert Revision.of(smaller).collections == smaller.names


def test_a_module_that_is_named_later_is_in_the_revision() -> None:
    schema = Schema(SCHEMA.declared)
    before = Revision.of(schema).module
    schema.module = "a_module_of_a_server"

    assert before == SCHEMA.module
    assert Revision.of(schema).module == "a_module_of_a_server"
