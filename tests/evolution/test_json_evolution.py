"""Schemas change over a JSON directory: what is taken, what is refused, what is migrated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import pend_storage as ps
from pend_storage._schema_changes import Evolution
from pend_storage.errors import ChangesExpired, SchemaOutOfDate
from pend_storage.events import Event
from pend_storage.schema import Schema
from pend_storage.stores.json import JsonStore

FORMAT_2 = Path(__file__).with_name("json_format_2")


@dataclass(frozen=True)
class Note:
    id: str
    text: str = ""
    stars: int = 0


@dataclass(frozen=True)
class Tagged:
    id: str
    text: str = ""
    stars: int = 0
    tag: str | None = None


@dataclass(frozen=True)
class Renamed:
    id: str
    body: str = ""
    stars: int = 0


@dataclass(frozen=True)
class Retyped:
    id: str
    text: str = ""
    stars: str = ""


@dataclass(frozen=True)
class Fewer:
    id: str
    text: str = ""


@dataclass(frozen=True)
class Short:
    id: str
    text: Annotated[str, ps.Limit(max_length=3)] = ""
    stars: int = 0


@dataclass(frozen=True)
class Keyed:
    text: str
    id: str = ""
    stars: int = 0


@dataclass(frozen=True)
class Demanding:
    id: str
    must: str
    text: str = ""
    stars: int = 0


@dataclass(frozen=True)
class Owner:
    id: str


def schema(record_type: type, *more: Any, **rules: Any) -> Schema:
    return Schema([ps.collection("notes", record_type, **rules), *more])


V1 = schema(Note)
OWNERS = ps.collection("owners", Owner)
NOTES = (Note("a", "one", 1), Note("b", "three", 3))


def opened(wanted: Schema, directory: Path, **settings: Any) -> JsonStore:
    return JsonStore(wanted, directory, checkpoint_interval=None, **settings)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    with opened(V1, directory) as store:
        store.collection(Note).put_many([Note("a", "zero"), NOTES[1]])
        store.collection(Note).put(NOTES[0])
        store.collection(Note).put(Note("gone"))
        store.collection(Note).delete("gone")
    return directory


def stored(wanted: Schema, directory: Path) -> list[Any]:
    with opened(wanted, directory) as store:
        return list(store.collection("notes").scan())


def versions(wanted: Schema, directory: Path) -> dict[str, int]:
    with opened(wanted, directory) as store:
        return {row.key: row.version for row in store.scan("notes", deleted=True)}


REFUSED = {
    "renamed": (schema(Renamed), r"notes\.body is added.*notes\.text is removed"),
    "retyped": (schema(Retyped), r"notes\.stars changes from int to str"),
    "removed": (schema(Fewer), r"notes\.stars is removed"),
    "narrower": (schema(Short), r"notes\.text is limited to max_length 3"),
    "key": (schema(Keyed, key="text"), r"the key of notes changes from id to text"),
    "unique": (schema(Note, unique=["text"]), r"text must be unique"),
    "no default": (schema(Demanding), r"notes\.must is added without a default"),
    "reference": (schema(Note, OWNERS, references={"text": "owners"}), "refers to own"),
    "gone": (Schema([OWNERS]), "the collection notes is removed"),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_would_lose_something_is_refused_at_the_opening(
    used: Path, change: str
) -> None:
    wanted, words = REFUSED[change]
    before = (used / "notes.json").read_bytes()

    with pytest.raises(SchemaOutOfDate, match=words) as caught:
        opened(wanted, used)

    assert "pend-storage json migrate" in str(caught.value)
    assert __name__ in str(caught.value)
    assert stored(V1, used) == [*NOTES]
    assert (used / "notes.json").read_bytes() == before


@pytest.mark.parametrize(
    "wanted",
    [
        schema(Tagged),
        schema(Note, OWNERS),
        schema(Note, indexes=[["-stars"]], search=["text"]),
    ],
)
def test_an_addition_is_taken_by_the_opening(used: Path, wanted: Schema) -> None:
    with opened(wanted, used) as store:
        assert [note.id for note in store.collection("notes").scan()] == ["a", "b"]
        assert store.collection("notes").find(ps.field("stars") == 3).items
    assert len(stored(wanted, used)) == 2


def test_what_an_older_program_does_not_know_survives_its_writes(used: Path) -> None:
    told: list[Event] = []
    with opened(schema(Tagged), used) as new:
        new.collection(Tagged).put(Tagged("a", "one", 1, tag="kept"))
    with opened(V1, used, hook=told.append) as old:
        notes = old.collection(Note)
        found = notes.get("a")
        assert found == NOTES[0]
        notes.put(replace(found, text="changed"))
        notes.put_many([Note("b", "twice"), Note("b", "last"), Note("c")])
        with old.transaction() as tx:
            tx.collection(Note).put(Note("a", "again"))
    with opened(schema(Tagged), used) as new:
        assert list(new.collection(Tagged).scan()) == [
            Tagged("a", "again", tag="kept"),
            Tagged("b", "last"),
            Tagged("c"),
        ]
        logged = [
            record.record for change in new.changes() for record in change.records
        ]
    assert Tagged("a", "again", tag="kept") in logged
    assert [event.name for event in told] == ["schema-behind"]


def test_an_older_program_leaves_files_and_feeds_to_the_newer(used: Path) -> None:
    with opened(schema(Tagged), used) as new:
        new.collection(Tagged).put(Tagged("a", "one", 1, tag="kept"))
    before = (used / "notes.json").read_bytes()

    with opened(V1, used, hook=lambda _: None) as old:
        old.collection(Note).put(Note("a", "new text"))
        old.checkpoint()
        assert (used / "notes.json").read_bytes() == before
        for action in (lambda: next(old.changes()), lambda: old.apply([])):
            with pytest.raises(SchemaOutOfDate, match="newer program"):
                action()

    opened(schema(Tagged), used).close()
    assert json.loads((used / "notes.json").read_bytes())["a"] == {
        "id": "a",
        "text": "new text",
        "stars": 0,
        "tag": "kept",
    }


def test_programs_that_run_at_the_same_time_see_each_other(used: Path) -> None:
    with opened(V1, used, hook=lambda _: None) as old:
        assert old.collection(Note).get("a") == NOTES[0]
        with opened(schema(Tagged), used) as new:
            new.collection(Tagged).put(Tagged("a", tag="kept"))
            old.collection(Note).put(Note("a", "by the old one"))
            found = new.collection(Tagged).get("a")
            assert found == Tagged("a", "by the old one", tag="kept")


def test_a_running_program_is_refused_after_a_migration(used: Path) -> None:
    wanted = MIGRATED["retyped"][0]
    with opened(schema(Note, indexes=[["stars"]]), used) as old:
        assert old.collection(Note).find(ps.field("stars") == 1).items
        JsonStore.migrate(wanted, used)
        for action in (
            lambda: old.collection(Note).get("a"),
            lambda: old.collection(Note).put(Note("a")),
            lambda: old.collection(Note).get("a"),
        ):
            with pytest.raises(SchemaOutOfDate, match="while this program ran"):
                action()
    assert stored(wanted, used) == MIGRATED["retyped"][1]


def test_a_value_too_large_for_a_new_index_is_named(used: Path) -> None:
    with opened(V1, used) as store:
        store.collection(Note).put(Note("c", "x" * 700))

    with pytest.raises(SchemaOutOfDate, match=r"text is indexed now.*notes\['c'\]"):
        opened(schema(Note, indexes=[["text"]]), used)

    assert len(stored(V1, used)) == 3


def test_a_record_read_without_a_member_is_stored_with_it(used: Path) -> None:
    with opened(schema(Tagged), used) as store:
        found = store.collection(Tagged).get("a")
        assert found is not None
        assert "tag" not in vars(found)  # or there is nothing to see here

        store.collection(Tagged).put(found)

        body = store.schema["notes"].codec.encode(found)
        assert json.loads(body)["tag"] is None
        store.checkpoint()
    assert json.loads((used / "notes.json").read_bytes())["a"]["tag"] is None


def test_programs_that_add_different_things_do_not_meet(used: Path) -> None:
    opened(schema(Tagged), used).close()

    with pytest.raises(
        SchemaOutOfDate, match=r"notes\.tag is removed.*owners is added"
    ):
        opened(schema(Note, OWNERS), used)


# -- migrations ---------------------------------------------------------------------------

STARRED: dict[str, Callable[[Any], Any]] = {"stars": "{} stars".format}
MIGRATED = {
    "renamed": (
        schema(Renamed, evolve=ps.Evolve(renamed_from={"body": "text"})),
        [Renamed("a", "one", 1), Renamed("b", "three", 3)],
    ),
    "retyped": (
        schema(Retyped, evolve=ps.Evolve(convert=STARRED)),
        [Retyped("a", "one", "1 stars"), Retyped("b", "three", "3 stars")],
    ),
    "filled": (
        schema(Demanding, evolve=ps.Evolve(convert={"must": lambda r: r["text"] * 2})),
        [Demanding("a", "oneone", "one", 1), Demanding("b", "threethree", "three", 3)],
    ),
    "dropped": (schema(Fewer), [Fewer("a", "one"), Fewer("b", "three")]),
    "unique": (schema(Note, unique=["text"]), [*NOTES]),
}


@pytest.mark.parametrize("change", MIGRATED)
def test_a_migration_changes_every_record_at_its_version(
    used: Path, change: str
) -> None:
    wanted, records = MIGRATED[change]
    before = versions(V1, used)

    dry = JsonStore.migrate(wanted, used, drop=True, dry_run=True)
    assert stored(V1, used) == [*NOTES]
    done = JsonStore.migrate(wanted, used, drop=True)

    assert done == dry
    assert stored(wanted, used) == records
    assert versions(wanted, used) == before
    shown = json.loads((used / "notes.json").read_bytes())
    assert [*shown.values()] == [json.loads(encoded(wanted, r)) for r in records]
    assert JsonStore.migrate(wanted, used) == Evolution(str(used), (), {})
    if change != "dropped":  # which it would take for an addition
        with pytest.raises(SchemaOutOfDate):
            opened(V1, used)


def encoded(wanted: Schema, record: Any) -> bytes:
    return wanted["notes"].codec.encode(record)


def test_the_change_log_before_a_migration_is_not_misread(used: Path) -> None:
    wanted = MIGRATED["retyped"][0]
    with opened(V1, used) as store:
        batch = store.schema.batch([store.schema.put(Note, Note("c"))])
        store.commit(batch)
        end = [change.sequence for change in store.changes()][-1]

    JsonStore.migrate(wanted, used)

    with opened(wanted, used) as store:
        with pytest.raises(ChangesExpired) as caught:
            list(store.changes())
        assert caught.value.oldest == end
        with pytest.raises(ChangesExpired):
            store.pending(0)
        found = store.find_commit(batch.token)
        assert found is not None
        assert found.sequence == end
        store.collection(Retyped).put(Retyped("d"))
        assert [len(change.records) for change in store.changes(end)] == [1]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (schema(Short), r"notes\['b'\]: text: 5 long, 3 allowed"),
        (schema(Retyped), r"notes\.stars changes.*evolve=ps\.Evolve\(convert="),
        (schema(Fewer), r"notes\.stars is removed: agree by --drop"),
        (schema(Renamed), r"notes\.text is removed: agree by --drop"),
        (schema(Demanding), r"notes\.must is added without a default: say"),
        (schema(Keyed, key="text"), r"key of notes .*declare a new collection"),
        (
            schema(Note, OWNERS, references={"text": "owners"}),
            r"text refers to owners\['one'\]: missing",
        ),
        (
            schema(Retyped, evolve=ps.Evolve(convert={"stars": int})),
            r"2 stored values.*notes\['a'\]: stars: int given, text expected",
        ),
        (
            schema(Retyped, evolve=ps.Evolve(convert={"stars": lambda n: 1 / (n - n)})),
            r"failed on 1 \(ZeroDivisionError",
        ),
        (Schema([OWNERS]), "collection notes is removed: agree"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(
    used: Path, wanted: Schema, words: str
) -> None:
    before = (used / "notes.json").read_bytes()

    for dry_run in (True, False):
        with pytest.raises(SchemaOutOfDate, match=words):
            JsonStore.migrate(wanted, used, dry_run=dry_run)

    assert stored(V1, used) == [*NOTES]
    assert (used / "notes.json").read_bytes() == before


def test_records_that_break_a_new_unique_are_named(used: Path) -> None:
    with opened(V1, used) as store:
        store.collection(Note).put(Note("c", "one"))

    with pytest.raises(SchemaOutOfDate, match=r"notes\['c'\].*notes\['a'\] has 'one'"):
        JsonStore.migrate(schema(Note, unique=["text"]), used)

    assert len(stored(V1, used)) == 3


def test_a_dropped_collection_leaves_its_file(used: Path) -> None:
    with opened(schema(Note, OWNERS), used) as store:
        store.collection(Owner).put(Owner("o"))
    with pytest.raises(SchemaOutOfDate, match="notes is removed"):
        opened(Schema([OWNERS]), used)

    done = JsonStore.migrate(Schema([OWNERS]), used, drop=True)

    assert done.records == {"notes": 2}
    with opened(Schema([OWNERS]), used, hook=lambda _: None) as store:
        assert store.collection(Owner).count() == 1
    assert len(json.loads((used / "notes.json").read_bytes())) == 2


def test_going_back_for_good_drops_what_was_added(used: Path) -> None:
    with opened(schema(Tagged), used) as new:
        new.collection(Tagged).put(Tagged("a", "one", 1, tag="x"))

    with pytest.raises(SchemaOutOfDate, match=r"notes\.tag is removed: agree"):
        JsonStore.migrate(V1, used)
    JsonStore.migrate(V1, used, drop=True)

    with opened(V1, used) as store:
        store.collection(Note).put(Note("c"))
    assert "tag" not in (used / "notes.json").read_text()
    assert len(json.loads((used / "notes.json").read_bytes())) == 3


def test_a_changed_default_leaves_older_records_as_they_were(used: Path) -> None:
    @dataclass(frozen=True)
    class More:
        id: str
        text: str = ""
        stars: int = 0
        mood: Literal["good", "bad"] = "good"

    @dataclass(frozen=True)
    class Other:
        id: str
        text: str = ""
        stars: int = 0
        mood: Literal["good", "bad"] = "bad"

    opened(schema(More), used).close()
    with pytest.raises(SchemaOutOfDate, match=r"notes\.mood has another default"):
        opened(schema(Other), used)
    JsonStore.migrate(schema(Other), used)

    assert {note.mood for note in stored(schema(Other), used)} == {"good"}


def test_former_values_are_given_as_the_fields_had_them(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Before:
        id: str
        at: datetime
        price: Decimal
        raw: bytes
        maybe: int | None = None

    @dataclass(frozen=True)
    class After:
        id: str
        at: str
        price: int
        raw: str
        maybe: str | None = None

    seen: list[Any] = []

    def noted(value: Any) -> str:
        seen.append(value)
        return str(value)

    def cents(value: Any) -> int:
        seen.append(value)
        return int(value * 100)

    moment = datetime(2026, 1, 2, tzinfo=UTC)
    with opened(schema(Before), tmp_path) as store:
        store.collection(Before).put(Before("a", moment, Decimal("1.50"), b"\x00"))
    convert = {"at": noted, "price": cents, "raw": noted, "maybe": noted}
    wanted = schema(After, evolve=ps.Evolve(convert=convert))

    JsonStore.migrate(wanted, tmp_path)

    assert seen == [moment, Decimal("1.50"), b"\x00"]
    assert stored(wanted, tmp_path) == [After("a", str(moment), 150, "b'\\x00'")]


# -- files --------------------------------------------------------------------------------


def test_an_edit_that_nobody_has_adopted_is_not_lost(used: Path) -> None:
    wanted = MIGRATED["renamed"][0]
    path = used / "notes.json"
    path.write_text(path.read_text().replace('"one"', '"edited"'))

    with pytest.raises(SchemaOutOfDate, match=r"notes\.json was changed by another"):
        JsonStore.migrate(wanted, used)
    opened(V1, used).close()
    JsonStore.migrate(wanted, used)

    assert stored(wanted, used)[0] == Renamed("a", "edited", 1)


# -- directories of before ----------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMAT_2, tmp_path / "data"))


OLD_NOTES = [Note("a", "first", 5), Note("b", "two", 2), Note("c", "three", 3)]


def test_a_directory_without_a_note_takes_the_schema_that_fits(old: Path) -> None:
    assert stored(V1, old) == OLD_NOTES
    assert json.loads((old / ".pend-storage" / "format").read_text())["format"] == 5
    with pytest.raises(SchemaOutOfDate, match=r"notes\.stars is removed"):
        opened(schema(Fewer), old)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (schema(Fewer), r"notes\['\w'\] has stars"),
        (schema(Renamed), r"notes\['\w'\] has text"),
        (schema(Retyped), r"notes\['\w'\]: Expected `str`, got `int`"),
    ],
)
def test_a_directory_without_a_note_refuses_what_does_not_fit(
    old: Path, wanted: Schema, words: str
) -> None:
    with pytest.raises(SchemaOutOfDate, match=words):
        opened(wanted, old)
    assert stored(V1, old) == OLD_NOTES


@pytest.mark.parametrize("change", ["renamed", "retyped", "dropped", "unique"])
def test_a_directory_without_a_note_can_be_migrated(old: Path, change: str) -> None:
    wanted = MIGRATED[change][0]

    JsonStore.migrate(wanted, old, drop=change == "dropped")

    found = stored(wanted, old)
    assert [note.id for note in found] == ["a", "b", "c"]
    if change == "renamed":
        assert found[0] == Renamed("a", "first", 5)
    if change == "retyped":
        assert found[0] == Retyped("a", "first", "5 stars")


def test_there_is_nothing_to_migrate_before_the_first_opening(tmp_path: Path) -> None:
    assert JsonStore.migrate(V1, tmp_path, dry_run=True).changes == ()
    assert [*tmp_path.iterdir()] == []
