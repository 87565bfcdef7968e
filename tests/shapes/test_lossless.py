"""Lossless round trip: a file of any shape, read and rendered again, has equal values."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pend_storage as ps
from pend_storage._layouts.layout import Layout, one_each
from pend_storage._model.diff import equal
from pend_storage.records import QuarantinedRecord
from pend_storage.stores.memory import MemoryStore


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    a: int
    b: str | None = None
    c: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Wide:
    id: str
    number: int = 0
    share: float = 0.5
    price: Decimal | None = None
    on: bool = False
    at: datetime | None = None
    day: date | None = None
    colour: Colour = Colour.RED
    level: Literal[1, 2, 3] = 1
    owner: uuid.UUID | None = None
    inner: Inner | None = None
    inners: list[Inner] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    blob: dict[str, Any] = field(default_factory=dict)
    any: Any = None
    five: int | None = 5


@dataclass(frozen=True)
class One:
    value: Any


NAMES = ("id", *(f for f in Wide.__dataclass_fields__ if f != "id"), "extra", "$legacy")
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    | st.sampled_from(
        (
            "2024-01-02",
            "2024-01-02T03:04:05.678Z",
            "red",
            "1.50",
            str(uuid.UUID(int=7)),
            1.5,
            2,
            1700000000,
        )
    )
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("a", "b", "c", "$legacy", "é")), inner)
    ),
    max_leaves=6,
)
objects = st.dictionaries(
    st.sampled_from(NAMES) | st.text(st.characters(codec="utf-8"), max_size=3),
    values,
    max_size=8,
)
names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4
)
lists = st.lists(objects | values, max_size=5)
maps = st.dictionaries(names, objects | values, max_size=5)
whole = {"list": lists, "map": maps, "wrapped": maps, "object": objects, "any": values}


def _wide(file: str, **declared: Any) -> Callable[[], list[Any]]:
    return lambda: [ps.records(file, Wide, **declared)]


FILES: dict[str, tuple[Callable[[], list[Any]], st.SearchStrategy[Any]]] = {
    "list": (_wide("f.json", shape=ps.LIST), lists),
    "list or map": (_wide("f.json"), lists | maps),
    "no keys": (_wide("f.json", key=None), lists),
    "composite": (_wide("f.json", key=("id", "number")), lists),
    "map": (_wide("f.json", key=ps.MEMBER_NAME), maps),
    "map with keys": (_wide("f.json", shape=ps.MAP), maps),
    "object": (_wide("f.json", shape=ps.OBJECT), objects),
    "wrapped list": (
        _wide("f.json", path="p"),
        st.builds(lambda m, v: {**m, "p": v}, objects, lists),
    ),
    "wrapped map": (
        _wide("f.json", path="p", key=ps.MEMBER_NAME),
        st.builds(lambda m, v: {**m, "p": v}, objects, maps),
    ),
    "scalar": (
        lambda: [ps.records("f.json", One, shape=ps.SCALAR)],
        values.filter(lambda v: not isinstance(v, dict | list)),
    ),
    "texts": (
        lambda: [ps.records("f.json", One, key=None, value="value")],
        lists,
    ),
    "documents": (lambda: list(ps.documents("f.json")), values),
    "parts": (
        lambda: [
            ps.records("f.json", Wide, path="p"),
            ps.records("f.json", One, path="q", key=None, value="value"),
        ],
        st.builds(lambda m, v, w: {**m, "p": v, "q": w}, objects, lists, lists),
    ),
    "lines": (_wide("f.jsonl"), lists),
    "document lines": (lambda: list(ps.documents("f.jsonl")), lists),
}


def written(value: Any, shape: str, style: int) -> bytes:
    """A file as programs write it."""
    if shape.endswith("lines"):
        lines = [json.dumps(item, ensure_ascii=bool(style % 2)) for item in value]
        return "".join(line + "\n" for line in lines).encode()
    indent = (None, 2, 4, "\t")[style % 4]
    return json.dumps(value, indent=indent, ensure_ascii=style % 2 == 0).encode()


def loaded(raw: bytes, shape: str) -> Any:
    """Content of a file, its numbers to the last digit."""
    read = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal).decode
    if shape.endswith("lines"):
        return [read(line) for line in raw.decode().split("\n") if line]
    return read(raw.decode())


def rendered(layout: Layout, schema: ps.Schema, raw: bytes, old: bytes) -> bytes:
    """The file from its records alone."""
    parsed = layout.parse(schema, raw)
    texts = []
    for entry in parsed.entries:
        record = entry.home.record
        if isinstance(record, QuarantinedRecord) and record.position is None:
            if record.code != "superseded":
                return layout.restored(record.raw, old)
            continue
        texts.append(layout.render_one(parsed.header, record))
    return b"".join(layout.assemble_in(parsed.header, texts, old))


@pytest.mark.parametrize("shape", FILES)
@given(data=st.data())
def test_a_file_is_rendered_as_it_was_read(shape: str, data: st.DataObject) -> None:
    declared, contents = FILES[shape]
    layouts = declared()
    schema = ps.schema_of(layouts)
    value = data.draw(contents)
    raw = written(value, shape, data.draw(st.integers(0, 7)))
    text = b""
    for layout in one_each(layouts):
        text = rendered(layout, schema, raw, text)
    assert equal(loaded(text, shape), loaded(raw, shape))


@pytest.mark.parametrize("shape", FILES)
@given(data=st.data())
def test_what_is_served_can_be_put_back_and_changes_nothing(
    shape: str, data: st.DataObject
) -> None:
    """Through the caller's own types, which know less than the file says."""
    declared, contents = FILES[shape]
    layouts = declared()
    schema = ps.schema_of(layouts)
    raw = written(data.draw(contents), shape, random.Random(1).randrange(8))
    for layout in one_each(layouts):
        store = MemoryStore(schema, layouts=layouts)
        for entry in layout.parse(schema, raw).entries:
            if not isinstance(entry.home.record, QuarantinedRecord):
                store.commit(schema.batch((entry.home,)))
        spec = schema[layout.collection]
        if spec.adapter is None:
            continue
        verbs: Any = store.collection(spec.adapter.user_type)
        before = {row.key: row.record for row in store.scan(spec.name)}
        for record in list(verbs.scan()):
            if spec.adapter.key_of(record) is not None:
                verbs.put(record)
        assert {row.key: row.record for row in store.scan(spec.name)} == before
