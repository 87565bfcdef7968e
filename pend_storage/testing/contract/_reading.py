"""Contract of ``get``, ``get_many``, ``get_by``, ``versioned`` and ``read``."""

from __future__ import annotations

import pytest

from pend_storage._model.records import Row, Versioned
from pend_storage.errors import InvalidQuery, UnknownCollection
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, each_case
from pend_storage.testing.domain import Log, Ship, Tally, a_log, a_ship, a_tally

__all__ = ["GetByContract", "GetContract", "GetManyContract", "ReadContract"]

UNSTORABLE_KEYS = ["\x00", "a\x00", "\ud800", "a\udfffb"]
KEYS = [
    "a b",
    " a",
    "a ",
    "a/b",
    "../a",
    ".",
    "a'b\"c",
    "%",
    "_",
    "\\",
    "\\u0041",
    "a\nb\r\tc",
    "null",
    "NULL",
    "0",
    "00",
    "-0",
    "{}",
    "$1",
    "é",
    "e\u0301",
    "\x7f",
    "\u2028",
    "\ufeff",
    "\uffff",
    "\U0001f6a2",
    "x" * 500,
]


class GetContract(Harness):
    """Contract of ``Collection.get`` and ``versioned``."""

    def test_get_gives_the_record_that_was_put(self, store: Store) -> None:
        ships = store.collection(Ship)

        ships.put(a_ship("s1", name="Anne"))

        assert ships.get("s1") == a_ship("s1", name="Anne")

    def test_get_of_a_missing_key_is_none(self, store: Store) -> None:
        store.collection(Ship).put(a_ship("s1"))

        assert store.collection(Ship).get("s2") is None

    def test_get_of_the_empty_key_is_none(self, store: Store) -> None:
        store.collection(Log).put(a_log("a"))

        assert store.collection(Log).get("") is None

    @each_case("key", UNSTORABLE_KEYS, collection=Log)
    def test_get_of_a_key_that_cannot_exist_is_none(
        self, store: Store, key: str
    ) -> None:
        store.collection(Log).put(a_log("a"))

        assert store.collection(Log).get(key) is None
        assert store.collection(Log).get_many([key, "a"]) == {"a": a_log("a")}

    @each_case("key", KEYS, collection=Log)
    def test_a_key_may_be_any_text(self, store: Store, key: str) -> None:
        logs = store.collection(Log)
        logs.put(a_log(key, "mine"))

        assert logs.get(key) == a_log(key, "mine")
        assert [log.id for log in logs.scan()] == [key]
        assert logs.delete(key)

    def test_all_keys_are_different_keys(self, store: Store) -> None:
        logs = store.collection(Log)

        logs.put_many(a_log(key, ascii(key)) for key in KEYS)

        assert logs.get_many(KEYS) == {key: a_log(key, ascii(key)) for key in KEYS}

    def test_a_key_belongs_to_one_collection(self, store: Store) -> None:
        store.collection(Log).put(a_log("same"))

        assert store.collection(Tally).get("same") is None

    def test_a_collection_is_found_by_name_and_by_type(self, store: Store) -> None:
        store.collection("tallies").put(a_tally("t", 7))

        assert store.collection(Tally).get("t") == a_tally("t", 7)

    @each_case("name", ["ship", "Ships", "", "ships; --"])
    def test_an_unknown_collection_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(UnknownCollection) as caught:
            store.collection(name)

        assert caught.value.name == name

    def test_a_record_that_is_changed_by_its_reader_stays_as_it_was_stored(
        self, store: Store
    ) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", extra={"a": {"b": [1]}}, tags=["x"]))

        for _ in range(2):
            ship = ships.get("s1")
            assert ship is not None
            assert ship.extra == {"a": {"b": [1]}}
            ship.extra["a"]["b"].append(2)  # type: ignore[index, call-overload, union-attr]
            ship.tags.clear()

        assert ships.get("s1") == a_ship("s1", extra={"a": {"b": [1]}}, tags=["x"])

    def test_a_record_that_is_changed_by_its_writer_stays_as_it_was_put(
        self, store: Store
    ) -> None:
        ships, extra = store.collection(Ship), {"a": [1]}
        ships.put(a_ship("s1", extra=extra))

        extra["a"].append(2)

        assert ships.get("s1") == a_ship("s1", extra={"a": [1]})

    def test_versioned_gives_the_record_and_the_version_of_its_put(
        self, store: Store
    ) -> None:
        version = store.collection(Ship).put(a_ship("s1"))

        assert store.collection(Ship).versioned("s1") == Versioned(
            a_ship("s1"), version
        )

    def test_versioned_of_a_missing_key_is_none(self, store: Store) -> None:
        assert store.collection(Ship).versioned("s1") is None

    def test_versioned_of_a_deleted_key_is_none(self, store: Store) -> None:
        store.collection(Ship).put(a_ship("s1"))
        store.collection(Ship).delete("s1")

        assert store.collection(Ship).versioned("s1") is None


class GetManyContract(Harness):
    """Contract of ``Collection.get_many``."""

    def test_no_keys_mean_none_and_not_all(self, store: Store) -> None:
        store.collection(Log).put(a_log("a"))

        assert store.collection(Log).get_many([]) == {}

    def test_missing_keys_are_absent(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many([a_log("a"), a_log("b")])

        assert logs.get_many(["b", "x", "a"]) == {"a": a_log("a"), "b": a_log("b")}

    def test_a_key_may_be_asked_for_twice(self, store: Store) -> None:
        store.collection(Log).put(a_log("a"))

        assert store.collection(Log).get_many(["a", "a"]) == {"a": a_log("a")}

    def test_keys_may_come_from_an_iterator(self, store: Store) -> None:
        store.collection(Log).put(a_log("a"))

        assert store.collection(Log).get_many(k for k in "xa") == {"a": a_log("a")}

    def test_thousands_of_keys_may_be_asked_for(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many(a_log(f"{n:05}") for n in range(0, 3000, 2))

        found = logs.get_many(f"{n:05}" for n in range(3000))

        assert found.keys() == {f"{n:05}" for n in range(0, 3000, 2)}


class GetByContract(Harness):
    """Contract of ``Collection.get_by``."""

    def test_it_finds_by_a_unique_field(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put_many([a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD")])

        assert ships.get_by("call_sign", "CD") == a_ship("s2", call_sign="CD")

    def test_it_finds_by_a_unique_field_of_bytes(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", fingerprint=b"\x00\xff"))

        assert ships.get_by("fingerprint", b"\x00\xff") is not None
        assert ships.get_by("fingerprint", b"\x00\xfe") is None

    def test_it_finds_by_the_key(self, store: Store) -> None:
        store.collection(Tally).put(a_tally("t1"))

        assert store.collection(Tally).get_by("name", "t1") == a_tally("t1")

    def test_a_value_that_nobody_has_is_none(self, store: Store) -> None:
        store.collection(Ship).put(a_ship("s1", call_sign="AB"))

        assert store.collection(Ship).get_by("call_sign", "ab") is None

    def test_it_follows_changes_and_deletes(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", call_sign="AB"))
        assert ships.get_by("call_sign", "AB") is not None
        ships.put(a_ship("s1", call_sign="CD"))
        ships.put(a_ship("s2", call_sign="EF"))
        ships.delete("s2")

        found = [ships.get_by("call_sign", sign) for sign in ("AB", "CD", "EF")]

        assert found == [None, a_ship("s1", call_sign="CD"), None]

    @each_case("name", ["remark", "flag", "nonsense"])
    def test_a_field_that_is_not_unique_is_refused(
        self, store: Store, name: str
    ) -> None:
        with pytest.raises(InvalidQuery):
            store.collection(Ship).get_by(name, "blue")

    def test_a_field_that_is_unique_only_with_another_is_refused(
        self, store: Store
    ) -> None:
        with pytest.raises(InvalidQuery):
            store.collection("berths").get_by("pier", "north")

    def test_nobody_can_be_found_by_a_null(self, store: Store) -> None:
        store.collection(Ship).put(a_ship("s1", call_sign=None))

        with pytest.raises(InvalidQuery):
            store.collection(Ship).get_by("call_sign", None)


class ReadContract(Harness):
    """Contract of ``Store.read``."""

    def test_a_row_has_key_version_and_record(self, store: Store) -> None:
        version = store.collection(Log).put(a_log("a"))

        assert store.read("logs", ["a"]) == {"a": Row("a", version, a_log("a"))}

    def test_a_deleted_row_is_absent_unless_asked_for(self, store: Store) -> None:
        logs = store.collection(Log)
        before = logs.put(a_log("a"))
        logs.put(a_log("b"))
        logs.delete("a")

        rows = store.read("logs", ["a", "b", "never"], deleted=True)

        assert store.read("logs", ["a"]) == {}
        assert rows.keys() == {"a", "b"}
        assert rows["a"].record is None
        assert rows["a"].version > before
        assert rows["b"].record == a_log("b")

    def test_a_row_that_was_written_again_is_no_tombstone(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put(a_log("a"))
        logs.delete("a")
        version = logs.put(a_log("a", "again"))

        rows = store.read("logs", ["a"], deleted=True)

        assert rows == {"a": Row("a", version, a_log("a", "again"))}

    def test_read_of_an_unknown_collection_is_refused(self, store: Store) -> None:
        with pytest.raises(UnknownCollection):
            store.read("nonsense", ["a"])
