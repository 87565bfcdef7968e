"""A mapping of one's own: nothing is lost, and nothing old hides what is new."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from pend_storage._model.fields import Limit
from pend_storage.legacy import MAP, Member, ObjectMapping, RecordLayout, Source, inside
from pend_storage.legacy import _exact_json as exact_json
from pend_storage.legacy._convert import (
    amount,
    amount_text,
    integer,
    json_object,
    number_of,
    text,
    time,
    time_text,
    words,
)
from pend_storage.legacy._notes import RESERVED
from pend_storage.records import JSON, LegacyFile
from pend_storage.schema import QUARANTINE, Schema, collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A record with a column of every kind."""

    slug: str
    title: Annotated[str, Limit(max_length=5)]
    state: Literal["open", "done"] = "open"
    count: Annotated[int, Limit(ge=0)] = 0
    price: Annotated[Decimal, Limit(digits=6, places=2)] | None = None
    options: dict[str, JSON] = field(default_factory=dict)
    details: dict[str, JSON] = field(default_factory=dict)
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: int | None = None
    content_hash: str | None = None


class NoteMapping(ObjectMapping):
    collection = "notes"
    key = "slug"
    record_type: ClassVar[type[Any]] = Note
    members: ClassVar[tuple[Member, ...]] = (
        Member("title", "title", text, required=True),
        Member(
            "state",
            "state",
            words({"open": "open", "fertig": "done"}, otherwise="done"),
        ),
        *inside("details", "place"),
        Member("count", "count", integer),
        Member("price", "price", amount, amount_text),
        Member("options", "options", json_object, blank={}),
    )

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        columns["slug"] = str(source.name)

    @override
    def name(self, record: Note) -> str:
        return record.slug

    @override
    def identity(self, record: Note) -> str:
        return record.slug


SCHEMA = Schema([collection("notes", Note, key="slug")])
LAYOUT = RecordLayout("notes.json", NoteMapping(), shapes=(MAP,))


def read(value: object) -> Any:
    raw = json.dumps({"a": value}).encode()
    (entry,) = LAYOUT.parse(SCHEMA, raw).entries
    return entry.home.record


def shown(record: Note) -> Any:
    (value,) = json.loads(
        b"{%b}" % LAYOUT.render_one(LAYOUT.missing(), record)
    ).values()
    return value


def worth(value: Any) -> Any:
    """A value with its numbers as they are worth, by the digits that are written."""
    return exact_json.read(json.dumps(value).encode())[0]


@pytest.mark.parametrize(
    "value",
    [
        {"title": "a"},
        {"title": "a", "state": None, "count": None, "options": None, "price": None},
        {"title": "a", "state": "open", "count": 0, "options": {}, "price": "1.5"},
        {"title": "a", "state": "FERTIG", "count": "7", "price": 1.5},
        {"title": "a", "state": "half", "count": 7.0, "price": "1,234.5"},
        {"title": "a", "count": -1, "price": "1.234", "options": [1]},
        {"title": "a", "price": 1e300, "count": True, "state": 3},
        {"count": 1, "title": "a", "b": 1, "a": 2},
        {"title": "a", "place": None, RESERVED: {"absent": ["title"]}, "extra": 5},
        {"title": "a", RESERVED: None, "": {"x": [1e-9]}},
    ],
)
def test_what_the_columns_cannot_say_is_kept_beside_them(value: dict[str, Any]) -> None:
    again = shown(read(value))

    assert worth(again) == worth(value)
    assert list(again) == list(value)


def test_a_record_of_new_code_is_shown_with_its_defaults_and_without_nulls() -> None:
    note = Note(slug="a", title="b")

    assert shown(note) == {"title": "b", "state": "open", "count": 0}


@pytest.mark.parametrize(
    ("column", "new", "member", "expected"),
    [
        ("state", "open", "state", "open"),
        ("count", 8, "count", 8),
        ("price", Decimal("2.50"), "price", "2.5"),
        ("price", None, "price", None),
        ("options", {"b": 1}, "options", {"b": 1}),
        ("title", "new", "title", "new"),
    ],
)
def test_a_changed_column_is_shown_and_its_old_spelling_forgotten(
    column: str, new: object, member: str, expected: object
) -> None:
    old = {"title": "a", "state": "half", "count": "7", "price": "1.50", "options": 3}
    note = read(old)

    changed = shown(replace(note, **{column: new}))

    assert changed.get(member) == expected
    assert {k: v for k, v in changed.items() if k != member} == {
        k: v for k, v in old.items() if k != member
    }


def test_a_kept_spelling_that_means_the_same_as_before_stays() -> None:
    note = read({"title": "a", "price": "1.50", "count": "7"})

    again = shown(replace(note, price=Decimal("1.500"), count=7))

    assert again == {"title": "a", "price": "1.50", "count": "7"}


def test_a_changed_number_is_not_given_back_the_digits_of_the_old_one() -> None:
    raw = b'{"a": {"title": "a", "place": [0.12345678901234567890123], "x": 0.5}}'
    (entry,) = LAYOUT.parse(SCHEMA, raw).entries
    note = entry.home.record

    kept = LAYOUT.render_one(LAYOUT.missing(), note)
    changed = LAYOUT.render_one(
        LAYOUT.missing(), replace(note, details={"place": [0.25]})
    )

    assert b"0.12345678901234567890123" in kept
    assert b"0.25" in changed
    assert b"0.1234" not in changed


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"count": 1}, "missing-member"),
        ({"title": None}, "missing-member"),
        ({"title": 5}, "bad-value"),
        ({"title": "too long for it"}, "bad-value"),
        ({"title": "a", "x": "\x00"}, "unstorable"),
        ({"title": "a", "place": {"\x00": 1}}, "unstorable"),
        (None, "wrong-type"),
        ([1], "wrong-type"),
        ("text", "wrong-type"),
        (True, "wrong-type"),
        (1.5, "wrong-type"),
    ],
)
def test_what_cannot_be_placed_waits_whole_with_a_reason(
    value: object, code: str
) -> None:
    record = read(value)

    assert (record.code, json.loads(b"{%b}" % record.raw)) == (code, {"a": value})
    assert record.reason


def test_notes_that_somebody_has_spoiled_do_no_harm() -> None:
    note = read({"count": 1, "title": "a"})
    spoilt: list[Any] = [7, None, [], {"absent": 3, "order": {}}]
    for spoiled in [*spoilt, {"numbers": [[1], 2, ["a"]]}]:
        changed = replace(note, extra={RESERVED: spoiled})

        assert shown(changed)["title"] == "a"


def test_an_adopted_change_leaves_alone_what_the_file_does_not_tell() -> None:
    mapping = LAYOUT.mapping
    present = replace(read({"title": "a"}), details={"mine": 1, "place": 2}, count=5)

    merged = mapping.merge(present, read({"title": "b", "place": 3}))

    assert (merged.title, merged.count) == ("b", 0)
    assert merged.details == {"mine": 1, "place": 3}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
names = st.sampled_from(
    ["title", "state", "count", "price", "options", "place", RESERVED]
)


@given(
    st.dictionaries(names | st.text(max_size=2), json_values, max_size=8),
    st.booleans(),
)
def test_any_object_is_placed_without_loss_or_waits_whole(
    value: dict[str, Any], titled: bool
) -> None:
    if titled:
        value["title"] = "a"
    record = read(value)

    if type(record) is Note:
        assert worth(shown(record)) == worth(value)
        assert json.dumps(worth(shown(record))) == json.dumps(worth(value))
    else:
        assert json.loads(b"{%b}" % record.raw) == {"a": value}


@pytest.mark.parametrize(
    ("spelled", "worth"),
    [
        ("250", "250"),
        ("1,250,000.50", "1250000.50"),
        (" .5 ", "0.5"),
        ("+5", "5"),
        ("0005.00", "5.00"),
        ("1e21", "1e21"),
        (7, "7"),
        (0.1, "0.1"),
    ],
)
def test_amounts_are_read_exactly(spelled: object, worth: str) -> None:
    assert amount(spelled) == Decimal(worth)


@pytest.mark.parametrize(
    "spelled",
    ["", "-", ".", ",", "EGP 5", "1,25", "1,2,3", "5 5", "٣", "0x5", True, None, []],
)
def test_what_is_no_amount_is_refused(spelled: object) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        amount(spelled)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, max_value=10**19))
def test_amounts_are_printed_exactly(number: Decimal) -> None:
    assert Decimal(amount_text(number)) == number
    assert amount(number_of(number)) == number


@pytest.mark.parametrize(
    ("spelled", "iso"),
    [
        ("2025-06-19T07:58:56.380Z", "2025-06-19T07:58:56.380000+00:00"),
        ("2025-06-19T07:58:56Z", "2025-06-19T07:58:56.000000+00:00"),
        ("2025-06-19 07:58", "2025-06-19T07:58:00.000000+00:00"),
        ("2025-06-19", "2025-06-19T00:00:00.000000+00:00"),
        ("2025-06-19T07:58:56.380456789+02:00", "2025-06-19T05:58:56.380456+00:00"),
        (1750319936, "2025-06-19T07:58:56.000000+00:00"),
        (1750319936.38, "2025-06-19T07:58:56.380000+00:00"),
        (1750319936380, "2025-06-19T07:58:56.380000+00:00"),
        ("1750319936381", "2025-06-19T07:58:56.381000+00:00"),
    ],
)
def test_times_are_read_in_every_spelling(spelled: object, iso: str) -> None:
    assert time(spelled).isoformat(timespec="microseconds") == iso


@pytest.mark.parametrize(
    "spelled",
    [
        *(
            "",
            "yesterday",
            "2025-13-01",
            "2025-06-19T25:00:00Z",
            "0001-01-01T00:00+14:00",
        ),
        *(0, -1, 10**15, True, None, [], {}),
    ],
)
def test_what_is_no_time_is_refused(spelled: object) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        time(spelled)


@given(st.datetimes(timezones=st.just(time("2025-06-19").tzinfo)))
def test_times_are_printed_so_that_they_are_read_back(moment: Any) -> None:
    assert time(time_text(moment)) == moment


def test_a_header_that_says_nothing_still_frames_a_file() -> None:
    header = LegacyFile(file="notes.json", envelope=[])

    assert b"".join(LAYOUT.assemble(header, [b"1", b"2"])) == b"1,2"
    assert QUARANTINE == "quarantine"
