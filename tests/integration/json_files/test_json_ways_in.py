"""One text comes into a store in several ways, and gives the same rows in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage.legacy import (
    LIST,
    MAP,
    WRAPPED,
    Member,
    ObjectMapping,
    RecordLayout,
    Source,
)
from pend_storage.legacy._convert import text
from pend_storage.operations.quarantine import find, list_quarantined, retry
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.records import JSON, QuarantinedRecord
from pend_storage.schema import AUDIT, LEGACY_FILES, QUARANTINE, Schema, collection
from pend_storage.stores.json import JsonStore

from .conftest import Editor

# -- a small schema of one's own --------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """An item of a list, under its own identity."""

    id: str
    name: str
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: int | None = None
    content_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A member of an object; refers to an author, and has a unique title."""

    id: str
    title: str
    author: str
    editor: str | None = None
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: int | None = None
    content_hash: str | None = None


class AuthorMapping(ObjectMapping):
    collection = "authors"
    record_type: ClassVar[type[Any]] = Author
    members: ClassVar[tuple[Member, ...]] = (
        Member("id", "id", text, required=True),
        Member("name", "name", text, required=True),
    )

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        """Everything is in the columns."""

    @override
    def identity(self, record: Author) -> str:
        return record.id


class NoteMapping(ObjectMapping):
    collection = "notes"
    record_type: ClassVar[type[Any]] = Note
    members: ClassVar[tuple[Member, ...]] = (
        Member("title", "title", text, required=True),
        Member("author", "author", text, required=True),
        Member("editor", "editor", text),
    )

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        columns["id"] = str(source.name)

    @override
    def name(self, record: Note) -> str:
        return record.id

    @override
    def identity(self, record: Note) -> str:
        return record.id


OWN = Schema(
    [
        collection("authors", Author, key="id"),
        collection(
            "notes",
            Note,
            key="id",
            unique=["title"],
            references={"author": "authors", "editor": "authors"},
        ),
    ]
)
OWN_LAYOUTS = (
    RecordLayout(
        "authors.json", AuthorMapping(), shapes=(WRAPPED, LIST), wrapper="all"
    ),
    RecordLayout("notes.json", NoteMapping(), shapes=(MAP,)),
)

# -- texts ------------------------------------------------------------------------------

HASHES = ["0x" + digit * 64 for digit in "ab"]
ADDRESSES = ["0x" + digit * 40 for digit in "cd"]
TIME = '"timestamp": "2025-06-19T07:58:56.380Z"'
ODD = ("NaN", '"\\ud800"', '{"i": 1, "i": 2}', "1.50", "null")


def names_of(hashes: Sequence[str]) -> list[str]:
    """Spellings of one name, and of another name of one key."""
    found = [f'"{each}"' for each in hashes]
    return [*found, found[0].replace("a", "\\u0061", 1), found[0].replace("a", "A")]


MAPS = {
    "wallet-db.json": (
        names_of(HASHES),
        [f'"{a}"' for a in ADDRESSES] + [f'{{"address": "{ADDRESSES[0]}"}}'],
    ),
    "uploads/kyc/metadata.json": (
        names_of(HASHES),
        ['{"verificationStatus": "verified"}', '{"verificationStatus": "no", "a": 1}'],
    ),
    "admin-pool-tiers.json": (['"a"', '"\\u0061"', '"b"', '""'], ["1", '{"a": [1]}']),
    "notes.json": (
        ['"n1"', '"n2"', '"\\u006e1"', '"n3"'],
        [
            '{"title": "t", "author": "a1"}',
            '{"title": "u", "author": "a2", "editor": "absent"}',
            '{"title": "v", "author": "absent"}',
        ],
    ),
}
LISTS = {
    "explorer-data/transactions-log.json": [
        f'{{"id": 1, "type": "mint", {TIME}}}',
        f'{{"id": 2, "type": "mint", {TIME}, "identityHash": "{HASHES[0]}"}}',
        f'{{"type": "mint", {TIME}}}',
    ],
    "admin-logs.json": [f'{{"action": "A", {TIME}}}', f'{{"action": "B", {TIME}}}'],
    "authors.json": [
        '{"id": "a1", "name": "Ann"}',
        '{"id": "a1", "name": "Eve"}',
        '{"id": "a2", "name": "Bea", "born": 1.50}',
    ],
}
WRAPPERS = {"admin-logs.json": "logs", "authors.json": "all"}


@st.composite
def texts(draw: st.DrawFn, file: str) -> str:
    if file in MAPS:
        names, values = MAPS[file]
        pair = st.tuples(st.sampled_from(names), st.sampled_from([*values, *ODD]))
        pairs = draw(st.lists(pair, max_size=5))
        return "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"
    item = st.sampled_from([*LISTS[file], *ODD])
    lists = st.lists(item, max_size=5).map(lambda items: f"[{', '.join(items)}]")
    if file not in WRAPPERS:
        return draw(lists)
    members = [f'"{WRAPPERS[file]}": {draw(lists)}']
    members[:0] = draw(
        st.lists(
            st.sampled_from(
                ['"v": 1', '"v": 2', '"": 0', f'"{WRAPPERS[file]}": [1, 2]']
            ),
            max_size=3,
        )
    )
    return "{" + ", ".join(members) + "}"


cases = st.sampled_from([*MAPS, *LISTS]).flatmap(
    lambda file: st.tuples(st.just(file), texts(file), texts(file))
)

# -- the ways in ------------------------------------------------------------------------


class Way:
    """A directory with one file, beside the files that it refers to."""

    def __init__(self, file: str, before: str | None) -> None:
        self._file = file
        self._own = any(layout.file == file for layout in OWN_LAYOUTS)
        self.layouts = OWN_LAYOUTS if self._own else LAYOUTS
        self._directory = TemporaryDirectory()
        self.old = Editor(Path(self._directory.name))
        if file != "authors.json" and self._own:
            self.put("authors.json", f"[{LISTS['authors.json'][0]}]")
        if file != "wallet-db.json" and not self._own:
            self.put("wallet-db.json", f'{{"{HASHES[0]}": "{ADDRESSES[0]}"}}')
        if before is not None:
            self.put(file, before)

    def put(self, file: str, raw: str) -> None:
        (self.old.directory / file).parent.mkdir(parents=True, exist_ok=True)
        self.old.put(file, raw)

    def __enter__(self) -> JsonStore:
        self.store = JsonStore(
            OWN if self._own else SCHEMA,
            self.old.directory,
            layouts=self.layouts,
            checkpoint_interval=None,
            hook=lambda _: None,
        )
        self.store.adoption_report()  # it is open
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self._directory.cleanup()


def rows_of(store: JsonStore, file: str, *, derived: bool) -> list[Any]:
    """Rows of a file in its order, and rows of other files.

    Without what depends on the moment, and on how many records there were before: so
    without the audit, whose entries tell of a retry.
    """
    layout = next(layout for layout in store.layouts if layout.file == file)
    mine, others = [], []
    for spec in store.schema:
        if spec.name in {LEGACY_FILES, AUDIT}:
            continue
        for row in store.scan(spec.name):
            here = spec.name in {layout.collection, QUARANTINE}
            if here and layout.owns(row.record):
                order = layout.order(row.record, 0)
                mine.append((order, row.key, shown(row.record)))
            elif derived:
                others.append((spec.name, row.key, shown(row.record)))
    mine.sort(key=lambda item: (item[0], repr(item[2])))
    return [
        [row if row[0] == "quarantine" else (key, row) for _, key, row in mine],
        others,
    ]


def shown(record: Any) -> Any:
    if isinstance(record, QuarantinedRecord):
        return ("quarantine", record.raw, record.code, record.position is None)
    return (type(record).__name__, *values_of(record))


def values_of(record: Any) -> Iterator[Any]:
    for each in dataclasses.fields(record):
        if each.name != "legacy_position":
            yield each.name, repr(getattr(record, each.name))


def whole_file(store: JsonStore) -> QuarantinedRecord:
    (record,) = filter(is_whole_file, list_quarantined(store))
    return find(store, record.id)


@settings(
    max_examples=max(20, settings().max_examples // 10),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(case=cases)
@example(
    (
        "notes.json",
        f'{{"n1": {MAPS["notes.json"][1][0]}, "n2": {MAPS["notes.json"][1][0]}}}',
        "{}",
    )
)
def test_first_adoption_an_edit_and_a_retry_give_the_same(
    case: tuple[str, str, str],
) -> None:
    compare(*case)


def compare(file: str, raw: str, other: str) -> None:
    with Way(file, raw) as store:
        alone = rows_of(store, file, derived=False)
        first = rows_of(store, file, derived=True)
        for record in list_quarantined(store, file=file):
            retry(store, record)
        assert rows_of(store, file, derived=True) == first

    for before in (None, ""):
        with Way(file, before) as store:
            edit(store, file, raw)
            assert rows_of(store, file, derived=True) == first

    # A unique value stays with the record that has it, and a wallet that old code takes
    # out stays, because a profile refers to it.
    claimed = any("value-taken" in row for row in alone[0])
    with Way(file, raw if claimed or file == "wallet-db.json" else other) as store:
        edit(store, file, raw)
        assert rows_of(store, file, derived=False) == alone

    with Way(file, "{") as store:
        outcome = retry(store, whole_file(store), text=raw.encode())
        assert outcome.placed, outcome.reason
        assert [row.record.action for row in store.scan(AUDIT)] == ["quarantine.retry"]
        assert rows_of(store, file, derived=True) == first


def edit(store: JsonStore, file: str, raw: str) -> None:
    old = Editor(store.directory)
    (old.directory / file).parent.mkdir(parents=True, exist_ok=True)
    old.put(file, raw)
    store.checkpoint()
    assert (old.directory / file).read_text() == raw
