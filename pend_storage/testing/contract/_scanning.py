"""Contract of ``scan``: keys in order, resumable."""

from __future__ import annotations

from itertools import islice

import pytest

from pend_storage.errors import UnknownCollection
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, each_case
from pend_storage.testing.domain import Log, a_log

__all__ = ["ScanContract"]

# UTF-16 would sort the last but one after the last; locales would mix the cases.
IN_ORDER = ["", "\t", " ", "0", "10", "9", "A", "B", "Z", "_", "a", "b", "z", "é", "ü"]
IN_ORDER += [
    "\u0416",
    "\u4e2d",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010fffd",
]


def numbered(count: int) -> list[Log]:
    """Build logs whose keys sort by number."""
    return [a_log(f"{n:05}") for n in range(count)]


class ScanContract(Harness):
    """Contract of ``Collection.scan`` and ``Store.scan``."""

    def test_an_empty_collection_gives_nothing(self, store: Store) -> None:
        assert list(store.collection(Log).scan()) == []

    def test_records_come_in_code_point_order_of_their_keys(self, store: Store) -> None:
        logs = store.collection(Log)
        keys = [f"k{end}" for end in IN_ORDER]
        logs.put_many(a_log(key) for key in reversed(keys))

        assert [log.id for log in logs.scan()] == keys

    @each_case(
        ("after", "expected"),
        [
            ("", ["a", "b", "c"]),
            ("a", ["b", "c"]),
            ("aa", ["b", "c"]),
            ("c", []),
            ("\U0010ffff", []),
        ],
        collection=Log,
    )
    def test_it_begins_after_a_key_that_need_not_exist(
        self, store: Store, after: str, expected: list[str]
    ) -> None:
        store.collection(Log).put_many([a_log("c"), a_log("a"), a_log("b")])

        found = [log.id for log in store.collection(Log).scan(after=after)]

        assert found == expected

    def test_thousands_of_records_come_once_each(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many(numbered(2500))

        assert list(logs.scan()) == numbered(2500)
        assert list(logs.scan(after="01234")) == numbered(2500)[1235:]

    def test_deleted_records_do_not_come(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many([a_log("a"), a_log("b")])
        logs.delete("a")

        assert list(logs.scan()) == [a_log("b")]

    def test_what_is_there_all_the_time_comes_once_while_others_write(
        self, store: Store
    ) -> None:
        logs = store.collection(Log)
        logs.put_many(numbered(1200))
        scan = logs.scan()
        seen = list(islice(scan, 10))

        logs.delete("00003")
        logs.delete("01100")
        logs.put_many([a_log("00003-new"), a_log("01150-new"), a_log("00900", "new")])
        seen += list(scan)

        ids = [log.id for log in seen]
        steady = {log.id for log in numbered(1200)} - {"00003", "01100"}
        assert ids == sorted(set(ids))
        assert steady <= set(ids)

    def test_two_scans_do_not_disturb_each_other(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many(numbered(700))

        pairs = list(zip(logs.scan(), logs.scan(), strict=True))

        assert [one for one, _ in pairs] == numbered(700)
        assert all(one == two for one, two in pairs)

    def test_a_scan_may_be_given_up(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many(numbered(700))

        for _ in range(30):  # more than any pool of connections holds
            assert next(iter(logs.scan())) == a_log("00000")

        assert logs.count() == 700

    def test_tombstones_come_in_order_if_asked_for(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many(numbered(1300))
        for key in ("00000", "00600", "01299"):
            logs.delete(key)

        rows = list(store.scan("logs", deleted=True))

        assert [row.key for row in rows] == [log.id for log in numbered(1300)]
        dead = [row.key for row in rows if row.record is None]
        assert dead == ["00000", "00600", "01299"]
        assert all(row.version > 0 for row in rows)

    def test_tombstones_alone_come_too(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put_many(numbered(3))
        for log in numbered(3):
            logs.delete(log.id)

        assert list(store.scan("logs")) == []
        rows = list(store.scan("logs", after="00000", deleted=True))
        assert [(row.key, row.record) for row in rows] == [
            ("00001", None),
            ("00002", None),
        ]

    def test_scan_of_an_unknown_collection_is_refused(self, store: Store) -> None:
        with pytest.raises(UnknownCollection):
            list(store.scan("nonsense"))
