"""A file of each shape, and what a server does with it: by plain JSON, and by records."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pend_storage as ps

__all__ = ["SHAPES", "Shape"]


@dataclass(frozen=True)
class Product:
    id: str
    name: str = ""
    stock: int = 0


@dataclass(frozen=True)
class Numbered:
    id: int
    text: str = ""


@dataclass(frozen=True)
class Unique:
    id: uuid.UUID
    text: str = ""


@dataclass
class Address:
    street: str
    zip: str | None = None


@dataclass
class Customer:
    id: str
    address: Address
    others: list[Address] = field(default_factory=list)
    credit: Decimal = Decimal(0)


@dataclass(frozen=True)
class Note:
    text: str
    stars: int = 0


@dataclass(frozen=True)
class Settings:
    port: int
    debug: bool = False
    mail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counter:
    value: int


@dataclass(frozen=True)
class Seat:
    row: int
    seat: str
    holder: str | None = None


@dataclass(frozen=True)
class Word:
    id: str
    meaning: str


UUID = uuid.UUID("5f0e2c1a-8d4b-5c39-9a51-6f1c0e7b2d48")
UUID_2 = uuid.UUID("6f0e2c1a-8d4b-5c39-9a51-6f1c0e7b2d48")


@dataclass(frozen=True)
class Shape:
    """One file, and one more record of it."""

    name: str
    layout: Callable[[], Any]
    text: str
    records: int
    new: Any
    """A record that new code adds; None where none can be."""
    old: Callable[[Any], Any]
    """What old code makes of what ``json.load`` gave."""
    lines: bool = False

    @property
    def file(self) -> str:
        found: str = self.layout().file
        return found

    def load(self, text: str) -> Any:
        """As old code reads it."""
        if self.lines:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)

    def dump(self, value: Any) -> str:
        """As old code writes it."""
        if self.lines:
            return "".join(json.dumps(item) + "\n" for item in value)
        return json.dumps(value, indent=2)


def _appended(item: Any) -> Callable[[Any], Any]:
    return lambda value: [*value, item]


def _set(name: str, item: Any) -> Callable[[Any], Any]:
    return lambda value: {**value, name: item}


def _inside(path: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {**value, path: change(value[path])}


def _documents(file: str) -> Callable[[], Any]:
    return lambda: ps.documents(file)[0]


def _records(file: str, kind: type, **declared: Any) -> Callable[[], Any]:
    return lambda: ps.records(file, kind, **declared)


def _document(file: str, key: str | None, body: Any) -> ps.Document:
    return ps.Document(file=file, key=key, body=body)


PRODUCTS = '[\n    {"id": "P-1", "stock": 12, "colour": "red"},\n  {"id":"P-2"}\n]\n'

SHAPES = (
    Shape(
        "list",
        _records("products.json", Product),
        PRODUCTS,
        2,
        Product("P-9", "HDMI", 30),
        _appended({"id": "P-5", "stock": 1, "size": [1, 2]}),
    ),
    Shape(
        "list of numbered records",
        _records("notes.json", Numbered),
        '[{"id": 1, "text": "a"}, {"id": 7, "more": 1e400}, {"id": 12}]'.replace(
            "1e400", "1.10"
        ),
        3,
        Numbered(20, "new"),
        _appended({"id": 13, "text": "by old code"}),
    ),
    Shape(
        "list of UUIDs",
        _records("jobs.json", Unique),
        json.dumps([{"id": str(UUID)}]),
        1,
        Unique(UUID_2),
        _appended({"id": "7f0e2c1a-8d4b-5c39-9a51-6f1c0e7b2d48"}),
    ),
    Shape(
        "list with a composite key",
        _records("seats.json", Seat, key=("row", "seat")),
        '[{"row": 1, "seat": "A"}, {"row": 1, "seat": "B", "holder": null}]',
        2,
        Seat(2, "A", "ann"),
        _appended({"row": 2, "seat": "B"}),
    ),
    Shape(
        "list without keys",
        _records("log.json", Note, key=None),
        '[{"text": "a"}, {"text": "a"}, {"text": "b", "stars": 3}]',
        3,
        Note("new", 5),
        _appended({"text": "a"}),
    ),
    Shape(
        "map by member name",
        _records("users.json", Product, key=ps.MEMBER_NAME),
        '{"111": {"stock": 5}, "112": {"name": "x", "warns": {"a": [1]}}}',
        2,
        Product("113", "new"),
        _set("114", {"stock": 2}),
    ),
    Shape(
        "map with the key inside",
        _records("users.json", Product, shape=ps.MAP),
        '{"a": {"id": "a"}, "b": {"stock": 1}}',
        2,
        Product("c"),
        _set("d", {"id": "d"}),
    ),
    Shape(
        "map of texts",
        _records("words.json", Word, key=ps.MEMBER_NAME, value="meaning"),
        '{"a": "first", "b": "second"}',
        2,
        Word("c", "third"),
        _set("d", "fourth"),
    ),
    Shape(
        "wrapped list",
        _records("db.json", Product, path="posts"),
        '{"version": 2, "posts": [{"id": "P-1"}], "users": [{"id": 1}]}',
        1,
        Product("P-9"),
        _inside("posts", _appended({"id": "P-4"})),
    ),
    Shape(
        "wrapped map",
        _records("todo.json", Product, key=ps.MEMBER_NAME, path="todos"),
        '{"metadata": {"count": 1},\n "todos": {"t1": {"name": "x"}}}',
        1,
        Product("t9"),
        _inside("todos", _set("t2", {"name": "y"})),
    ),
    Shape(
        "TinyDB",
        _records("tiny.json", Numbered, key=ps.MEMBER_NAME, path="_default"),
        '{"_default": {"1": {"text": "a"}, "2": {"text": "b"}}}',
        2,
        Numbered(3, "c"),
        _inside("_default", _set("4", {"text": "d"})),
    ),
    Shape(
        "JSON lines",
        _records("events.jsonl", Numbered),
        '{"id":1,"text":"a"}\n{"id":2, "more": [1]}\n\n{"id":3}\n',
        3,
        Numbered(9),
        _appended({"id": 4}),
        lines=True,
    ),
    Shape(
        "JSON lines without keys",
        _records("events.ndjson", Note, key=None),
        '{"text": "a"}\n{"text": "a"}\n',
        2,
        Note("b"),
        _appended({"text": "c"}),
        lines=True,
    ),
    Shape(
        "settings",
        _records("settings.json", Settings, shape=ps.OBJECT),
        '{\n  "port": 80,\n  "mail": {"smtp": {"host": "x"}},\n  "other": 1\n}\n',
        1,
        Settings(81, debug=True),
        _set("port", 82),
    ),
    Shape(
        "a bare number",
        _records("counter.json", Counter, shape=ps.SCALAR),
        "41\n",
        1,
        Counter(42),
        lambda value: value + 2,
    ),
    Shape(
        "nested records",
        _records("customers.json", Customer),
        '[{"id": "a", "address": {"street": "S", "floor": 3}, "credit": "12.50"}]',
        1,
        Customer("b", Address("T"), [Address("U", "9")]),
        _appended({"id": "c", "address": {"street": "V"}}),
    ),
    Shape(
        "documents: map of maps",
        _documents("warnings.json"),
        '{"guild": {"user": [1, {"a": null}]}, "other": {}}',
        2,
        _document("warnings.json", "third", {"x": [1]}),
        _set("fourth", 4),
    ),
    Shape(
        "documents: list of scalars",
        _documents("words.json"),
        '["a", 1, 1, null, 2.50, [true]]',
        6,
        _document("words.json", None, "new"),
        _appended("old"),
    ),
    Shape(
        "documents: scalar",
        _documents("motd.json"),
        '"hello"',
        1,
        None,
        lambda value: value + "!",
    ),
    Shape(
        "documents: lowdb",
        _documents("db.json"),
        '{"posts": [{"id": 1}], "users": [{"id": 1}], "n": 3}',
        3,
        _document("db.json", "tags", []),
        _inside("posts", _appended({"id": 2})),
    ),
    Shape(
        "documents: empty list",
        _documents("empty.json"),
        "[]",
        0,
        _document("empty.json", None, 1),
        _appended(2),
    ),
    Shape(
        "documents: empty map",
        _documents("empty.json"),
        "{}\n",
        0,
        _document("empty.json", "a", 1),
        _set("b", 2),
    ),
    Shape(
        "documents: JSON lines",
        _documents("log.jsonl"),
        '{"a": 1}\n3\n"x"\n',
        3,
        _document("log.jsonl", None, {"n": 1}),
        _appended([]),
        lines=True,
    ),
    Shape(
        "empty list",
        _records("products.json", Product, shape=ps.LIST),
        "[]\n",
        0,
        Product("P-9"),
        _appended({"id": "P-5"}),
    ),
    Shape(
        "empty map",
        _records("products.json", Product, key=ps.MEMBER_NAME),
        "{}",
        0,
        Product("P-9"),
        _set("P-5", {}),
    ),
    Shape(
        "empty wrapped map",
        _records("todo.json", Product, key=ps.MEMBER_NAME, path="todos"),
        '{"todos": {}, "n": 0}',
        0,
        Product("P-9"),
        _inside("todos", _set("P-5", {})),
    ),
)
