"""An export of many entries takes bounded memory, and what it has is redacted."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

import pend_storage as ps
from pend_storage.operations import audit
from pend_storage.schema import Schema
from pend_storage.stores.memory import MemoryStore

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
MOST_GROWTH = 100 * 1024
"""Kilobytes by which the export may grow a process."""

_EXPORT = """
import resource, sys
from pend_storage.operations import audit
from pend_storage.stores.postgres import PostgresStore
from tests.audit.stores import KEYS
with PostgresStore(KEYS, sys.argv[1]) as store:
    next(audit.entries(store))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(sys.argv[2], "w") as file:
        for text in audit.export(audit.entries(store), sys.argv[3]):
            file.write(text)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@dataclass(frozen=True)
class Person:
    id: Annotated[str, ps.Personal()]
    name: Annotated[str, ps.Personal()] = ""
    tier: int = 0


PEOPLE = Schema(
    [
        ps.collection("people", Person, audit="full"),
    ]
)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_takes_bounded_memory(
    postgres_url: str, tmp_path: object, form: str
) -> None:
    import psycopg

    from pend_storage.stores.postgres import PostgresStore
    from tests.audit.stores import KEYS

    count = 1_000_000 if IS_DEEP else 100_000
    with PostgresStore(KEYS, postgres_url) as store:
        store.migrate()
        audit.record(store, "seed", by="ann", reason=None, details={"a": "b" * 200})
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            'insert into audit (id, at, action, "by", reason, content, salt, commitment,'
            " version) select to_char(n, 'FM000000000000'), a.at, a.action, a.\"by\","
            " a.reason, a.content, a.salt, a.commitment, n"
            " from audit as a, generate_series(1, %s) as n where a.action = 'seed'",
            [count],
        )
    target = f"{tmp_path}/entries"

    done = subprocess.run(
        [sys.executable, "-c", _EXPORT, postgres_url, target, form],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST_GROWTH
    with Path(target).open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == count + 1 + (form == "csv")


@pytest.fixture
def people() -> MemoryStore:
    store = MemoryStore(PEOPLE)
    records = store.collection(Person)
    records.put(Person("0x" + "ab" * 20, "Jane", 1))
    records.put(Person("0x" + "ab" * 20, "Jane", 2))
    return store


def test_personal_values_are_left_out(people: MemoryStore) -> None:
    text = "".join(audit.export(audit.entries(people), "jsonl"))

    assert "Jane" not in text
    assert "abababab" not in text
    assert '"tier":2' in text


def test_personal_values_are_shown_when_that_is_recorded(people: MemoryStore) -> None:
    lines = audit.reveal_entries(
        people, audit.AuditFilter(collection="people"), by="ann", reason="ticket"
    )
    text = "".join(audit.export(lines, "csv"))

    assert "Jane" in text
    (entry,) = audit.entries(people, audit.AuditFilter(action="reveal"))
    assert (entry.by, entry.reason) == ("ann", "ticket")
    assert entry.values == {"collection": "people"}


def test_values_of_a_collection_that_is_gone_are_left_out(people: MemoryStore) -> None:
    other = MemoryStore(Schema([]))
    for row in people.scan("audit"):
        other._state.any_table("audit").set(
            row.key, row.version, other.schema["audit"].codec.encode(row.record)
        )

    text = "".join(audit.export(audit.entries(other), "jsonl"))

    assert "Jane" not in text
    assert "abababab" not in text


def test_filters_choose_entries(people: MemoryStore) -> None:
    (first, second) = audit.entries(people)

    def count(**chosen: object) -> int:
        return len(list(audit.entries(people, audit.AuditFilter(**chosen))))  # type: ignore[arg-type]

    assert count(key="0x" + "ab" * 20, collection="people") == 2
    assert count(key="other", collection="people") == 0
    assert count(since=second.at, until=None) == 1
    assert count(until=second.at) == 1
    assert count(since=first.at) == 2
    assert count(by="ann") == 0
    audit.seal(people)
    assert count() == 2
    assert count(seals=True) == 3
    with pytest.raises(ps.ConfigError, match="zone"):
        audit.AuditFilter(since=first.at.replace(tzinfo=None))
