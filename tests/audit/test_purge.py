"""A purge takes a person out of the audit, and the chain still verifies."""

from __future__ import annotations

import os
from pathlib import Path

import pend_storage as ps
from pend_storage.config import settings_in_code
from pend_storage.operations import audit
from pend_storage.operations.purge import purge
from pend_storage.stores.json import JsonStore
from tests.audit.stores import SCHEMA, Note


def test_a_purged_record_is_in_no_entry(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with JsonStore(SCHEMA, directory) as store:
        store.collection(Note).put(Note("jane-roe-1970", "a-private-matter"))
        audit.seal(store)
        store.collection(Note).put(Note("jane-roe-1970", "a-private-change"))
        store.collection(Note).put(Note("other", "stays"))
    settings = settings_in_code(schema=SCHEMA, json=directory)

    result = purge(settings, "notes", ["jane-roe-1970"], delete=True)

    assert result.ok, result.held
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            raw = (Path(folder) / name).read_bytes()
            assert b"jane-roe" not in raw, name
            assert b"a-private" not in raw, name
    with ps.open_store(schema=SCHEMA, json=directory) as store:
        report = audit.verify(store)
        lines = list(audit.entries(store))
    assert (report.problems, report.erased) == ([], 3)
    assert [line.action for line in lines if line.erased_at] == ["put", "put", "delete"]
    (done,) = [line for line in lines if line.action == "purge"]
    assert done.values == {"collection": "notes", "entries": 3, "keys": 1}
