"""User fields and collections can have any name: none of ours is a Python identifier."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import make_dataclass
from typing import Any

import pytest

from pend_storage.collection import Collection
from pend_storage.errors import ConfigError
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.records import ChangedRecord
from pend_storage.schema import Schema, collection
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._functions.definitions import definitions
from pend_storage.testing.domain import SCHEMA

WORDS = re.compile(r"[A-Za-z_][A-Za-z_0-9]*\$?")
REPORTED = [
    "_sequence",
    "_grave",
    "_merged",
    "_most",
    "_failed",
    "_actual",
    "_a",
    "_b",
    "_c",
    "_k",
    "_later",
]
"""Names that once failed at the first write."""
ODD = [
    "lateral",
    "tablesample",
    "system_user",
    "concurrently",
    "table",
    "key",
    "value",
    "name_",
    "t",
    "u",
    "x",
    "d",
    "excluded",
    "old",
    "new",
    "records",
]

PLPGSQL = [
    "begin",
    "by",
    "declare",
    "execute",
    "foreach",
    "loop",
    "strict",
]
"""Reserved in the text of a function, and not in SQL."""


def words() -> set[str]:
    """Every word in the text of the functions, with its ``$`` and without."""
    found = set(WORDS.findall("\n".join(definitions(SCHEMA))))
    return found | {word.rstrip("$") for word in found}


def declared() -> list[str]:
    """Variables, parameters and aliases, as they are written."""
    text = "\n".join(definitions(SCHEMA))
    kinds = (
        r"declare\s+(.*?)\sbegin\s",  # variables
        r"create or replace function [^(]+\(([^)]*)\)",  # parameters
        r"returns table \(([^)]*)\)",
        r"\sas\s+(\w+\$?)\s*(?:\(|,|\s)",  # aliases
        r"(?:with|\),)\s+(\w+\$?)\s+as\s",  # parts of a with
    )
    found = " ".join(" ".join(re.findall(kind, text, re.DOTALL)) for kind in kinds)
    return re.findall(r"\b_\w*\$?", found)


def test_no_variable_is_a_python_identifier() -> None:
    names = declared()

    assert len(set(names)) > 40
    assert [name for name in names if name.isidentifier()] == []


def usable(word: str) -> bool:
    return word.isidentifier() and word == word.lower() and len(word) <= 40


@pytest.fixture(scope="module")
def names() -> list[str]:
    found = {word for word in words() if usable(word)}
    found.update(REPORTED, ODD, PLPGSQL)
    kept = []
    for name in sorted(found):
        try:
            make_dataclass("Probe", [("id", str), (name, str)])
        except (TypeError, ValueError):
            continue  # a keyword of Python, or "id" twice
        kept.append(name)
    assert len(kept) > 100
    return kept


def test_fields_of_any_name_are_written_in_every_way(
    names: list[str], new_migrated_database: Callable[[Schema], str]
) -> None:
    fields: list[Any] = [(name, str | None, None) for name in names]
    wide = make_dataclass("Wide", [("id", str), *fields], frozen=True)
    unique = [[name] for name in names[::9]]
    schema = Schema([collection("wide", wide, unique=unique)])
    url = new_migrated_database(schema)
    with PostgresStore(schema, url) as store:
        records: Collection[Any] = store.collection(wide)

        def make(key: str) -> Any:
            return wide(key, *[f"{key}{n}" for n in range(len(names))])

        def checked(tx: Any) -> None:
            tx.collection(wide).get("a")
            tx.collection(wide).put(make("d"))
            tx.collection(wide).put(make("e"))

        records.put(make("a"))
        records.put_many([make("b"), make("c")])
        store.run(checked)
        assert records.delete("b")
        store.commit_each([schema.batch([schema.put(wide, make(k))]) for k in "bfg"])
        records.put(make("a"), if_version=records.versioned("a").version)  # type: ignore[union-attr]
        assert [r.id for r in records.scan()] == list("abcdefg")
        assert records.get("g") == make("g")
        secondary = RoleState(Role.SECONDARY, 1).to_meta()
        assert store.compare_and_set_meta(ROLE_META, None, secondary)
        far = 10**15
        rows = [ChangedRecord("wide", f"y{n}", far, make(f"y{n}")) for n in range(300)]
        store.apply([ChangedRecord("wide", "z", far, make("z"))])
        store.apply([ChangedRecord("wide", "b", far, None), *rows])
        assert store.read("wide", ["z", "y7"])["y7"].record == make("y7")


def test_collections_of_any_name_are_written_in_every_way(
    names: list[str], new_migrated_database: Callable[[Schema], str]
) -> None:
    def make(name: str) -> type:
        fields = [("id", str), ("text", str)]
        return make_dataclass(f"Of_{name}", fields, frozen=True)

    specs = []
    for name in names:
        try:
            spec = collection(name, make(name), unique=["text"])
            Schema([spec])
        except ConfigError:  # one of the library's own, or of the server
            continue
        specs.append(spec)
    inner = {"fresh", "dead", "put", "late", "gone", "grave", "lateral", "table"}
    inner.update(PLPGSQL)
    assert inner <= {spec.name for spec in specs}
    few = [s for n, s in enumerate(specs) if s.name in inner or n % 6 == 0]
    schema = Schema(few)
    with PostgresStore(schema, new_migrated_database(schema)) as store:
        for spec in schema:
            if spec not in few:
                continue
            things, record = store.collection(spec.name), spec.record_type
            things.put(record("a", "1"))
            things.put_many([record("b", "2"), record("c", "3")])
            assert things.delete("b")
            assert [thing.id for thing in things.scan()] == ["a", "c"]
