"""Types of declarations: schemas, layouts, and stores that are made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

import pend_storage as ps


@dataclass(frozen=True)
class Note:
    id: str
    text: str


def schema() -> ps.Schema:
    spec = ps.collection("notes", Note, key="id", indexes=[["text", "-id"]])
    assert_type(spec, ps.CollectionSpec)
    made = ps.Schema([spec])
    assert_type(made["notes"], ps.CollectionSpec)
    return made


def stores(directory: Path, url: str) -> None:
    json = ps.JsonStore(schema(), directory)
    postgres = ps.PostgresStore(schema(), url)
    assert_type(json, ps.JsonStore)
    assert_type(postgres, ps.PostgresStore)
    assert_type(ps.MemoryStore(schema()), ps.MemoryStore)
    assert_type(
        ps.DualWriteStore(json=json, postgres=postgres, compare=0.05), ps.DualWriteStore
    )
