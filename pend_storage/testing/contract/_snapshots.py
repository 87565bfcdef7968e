"""Contract of ``snapshot``: all rows, tombstones and meta at one exact position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from pend_storage._model.snapshots import LogPoint, SnapshotReader, StoredRow
from pend_storage.errors import StoreUnavailable, UnknownCollection
from pend_storage.phases import IDENTITY_META, ROLE_META, Role, RoleState
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.testing.contract._feeding import all_rows
from pend_storage.testing.contract._harness import (
    Harness,
    become,
    commit,
    each_case,
    requires,
)
from pend_storage.testing.domain import (
    Log,
    Ship,
    a_berth,
    a_cargo,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["SnapshotContract", "all_stored", "fill", "stored", "stored_rows"]

Place = tuple[str, str]
Contents = dict[str, list[StoredRow]]

EMPTY: dict[str, Any] = {
    "extra": {"": None, "a": [], "b": {}, "c": [None, ""], "d": 0.0, "e": False},
    "papers": {},
    "signals": [],
    "anything": "",
    "remark": "",
    "seal": b"",
    "insured": False,
    "cargo_grams": 0,
}
LARGE: dict[str, Any] = {
    "extra": {"n": 2**70, "x": 1e300, "t": 'é\U0001f6a2\u2028\n"\\'},
    "anything": [[[{"a": 1.5}]]],
    "remark": "line\nbreak",
}


def stored_rows(reader: SnapshotReader, schema: Schema) -> Contents:
    """Read all rows of a snapshot, by collection, in key order."""
    return {spec.name: sorted(reader.rows(spec.name)) for spec in schema}


def stored(store: Store) -> tuple[LogPoint, Contents]:
    """Return position and rows of a snapshot."""
    with store.snapshot() as reader:
        return reader.point, stored_rows(reader, store.schema)


def all_stored(store: Store) -> Contents:
    """Read all rows by scans, with the bodies that a snapshot has."""
    return {
        name: [
            StoredRow(
                row.key,
                row.version,
                None
                if row.record is None
                else store.schema[name].codec.encode(row.record),
            )
            for row in rows
        ]
        for name, rows in all_rows(store).items()
    }


def fill(store: Store) -> None:
    """Write records of all collections, and delete some."""
    commit(store, a_berth("b1"), a_berth("b2", neighbour_id="b1", number=0))
    commit(store, a_ship("s1", berth_id="b1", call_sign="AB", **EMPTY))
    commit(store, a_ship("s2", fingerprint=b"\x00\xff", **LARGE), a_cargo("c1"))
    commit(store, a_tally("t", 1), a_log("gone"), a_log("ü", "\U0001f6a2"))
    commit(store, a_tally("t", 2), a_cargo("c2", ship_id="s2"))
    commit(store, delete=[("logs", "gone"), ("cargo", "c2")])


class _Writer:
    """Thread that commits records of its own keys, and remembers every version."""

    def __init__(self, store: Store, number: int, times: int) -> None:
        self.commits: list[tuple[tuple[int, ...], dict[Place, Any]]] = []
        self._store = store
        self._number = number
        self._times = times
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for n in range(self._times):
            tally = a_tally(f"{self._number}", n)
            log = a_log(f"{self._number}-{n % 3}", str(n))
            places = [("tallies", tally.name), ("logs", log.id)]
            if n % 4:
                records, versions = [tally, log], commit(self._store, tally, log)
            else:
                records = [tally, None]
                versions = commit(self._store, tally, delete=places[1:])
            # The deletion of what is not there has no version, and no effect.
            done = zip(places, records, versions, strict=True)
            self.commits.append((versions, {p: r for p, r, v in done if v}))

    def expected(self, upto: int) -> Iterator[tuple[Place, int, Any]]:
        """Yield what this thread's keys are after the commits up to a sequence number."""
        found: dict[Place, tuple[int, Any]] = {}
        for versions, records in self.commits:
            version = max(versions)
            if version <= upto:
                found |= {place: (version, r) for place, r in records.items()}
        for place, (version, record) in found.items():
            yield place, version, record


@contextmanager
def writing(store: Store, threads: int, times: int) -> Iterator[list[_Writer]]:
    """Write in threads during a block; at its end all of them are done."""
    writers = [_Writer(store, n, times) for n in range(threads)]
    for writer in writers:
        writer.thread.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.thread.join()


class SnapshotContract(Harness):
    """Contract of ``Store.snapshot``."""

    def test_a_snapshot_has_all_rows_with_versions_and_tombstones(
        self, store: Store
    ) -> None:
        fill(store)

        _, found = stored(store)

        assert found == all_stored(store)
        assert [row.body for row in found["cargo"] if row.key == "c2"] == [None]

    @each_case("fields", [EMPTY, LARGE, {}], collection=Ship)
    def test_bodies_are_the_records_that_were_put(
        self, store: Store, fields: dict[str, Any]
    ) -> None:
        ship = a_ship("s1", **fields)
        commit(store, ship)

        rows = [r for r in stored(store)[1]["ships"] if r.body is not None]

        codec = store.schema["ships"].codec
        found = [codec.decode(row.body or b"") for row in rows]
        assert found == [ship]
        # Of a JSON value, PostgreSQL does not keep the order of the members.
        assert [row.body for row in rows] == [codec.encode(found[0])]

    def test_a_snapshot_of_an_empty_store_is_empty(self, store: Store) -> None:
        point, found = stored(store)

        assert found == {spec.name: [] for spec in store.schema}
        assert min(commit(store, a_log("a"))) > point.sequence

    def test_system_collections_are_among_the_rows(self, store: Store) -> None:
        with store.snapshot() as reader:
            for name in store.schema.names:
                assert list(reader.rows(name)) == []

    def test_rows_of_an_unknown_collection_are_refused(self, store: Store) -> None:
        with store.snapshot() as reader, pytest.raises(UnknownCollection):
            list(reader.rows("nothing"))

    def test_later_commits_are_not_in_it_and_do_not_wait(self, store: Store) -> None:
        fill(store)
        before = all_stored(store)

        with store.snapshot() as reader:
            commit(store, a_tally("t", 9), a_log("new"), delete=[("cargo", "c1")])
            commit(store, a_log("new", "2"), delete=[("ships", "s1")])
            found = stored_rows(reader, store.schema)

        assert found == before
        assert stored(store)[1] == all_stored(store) != before

    def test_versions_of_later_commits_lie_above_its_position(
        self, store: Store
    ) -> None:
        versions = commit(store, a_log("a"))
        for n in range(3):
            point, _ = stored(store)

            assert max(versions) <= point.sequence
            versions = commit(store, a_log("a", f"{n}"), a_log(f"{n}"))
            assert min(versions) > point.sequence

    @requires("has_role")
    def test_its_position_is_one_of_the_change_log(self, store: Store) -> None:
        fill(store)
        last = list(store.changes())[-1]

        point, _ = stored(store)
        again, _ = stored(store)
        commit(store, a_log("later"))

        assert (point.identity, point.epoch) == (store.identity(), 0)
        assert last.sequence <= point.sequence <= again.sequence
        (later,) = store.changes(point.sequence)
        assert [r.key for r in later.records] == ["later"]

    @requires("has_role")
    def test_its_epoch_is_that_of_the_role(self, store: Store) -> None:
        become(store, Role.PRIMARY, 7)
        commit(store, a_log("a"))

        with store.snapshot() as reader:
            assert reader.point.epoch == 7
            assert reader.meta[ROLE_META] == RoleState(Role.PRIMARY, 7).to_meta()
            assert reader.meta[IDENTITY_META] == reader.point.identity

    @requires("has_role")
    def test_a_secondary_can_be_copied_too(
        self, secondary: Store, other: Store
    ) -> None:
        fill(other)
        for change in other.changes():
            secondary.apply(change.records)

        point, found = stored(secondary)
        assert found == all_stored(other)
        versions = [row.version for rows in found.values() for row in rows]
        assert point.sequence >= max(versions)

    @requires("can_snapshot")
    def test_it_has_all_named_values(self, store: Store) -> None:
        value: Any = {"a": [1, None, 2**70], "b": ""}
        assert store.compare_and_set_meta("m", None, value)
        assert store.compare_and_set_meta("gone", None, 1)
        assert store.compare_and_set_meta("gone", 1, None)

        with store.snapshot() as reader:
            store.compare_and_set_meta("m", value, "later")
            assert reader.meta["m"] == value
            assert "gone" not in reader.meta

    @requires("has_role")
    def test_its_time_lies_between_those_of_the_commits_around(
        self, store: Store
    ) -> None:
        commit(store, a_log("a"))
        with store.snapshot() as reader:
            at, after = reader.at, reader.point.sequence
        commit(store, a_log("a", "2"))

        before, later = store.changes()
        assert before.at <= at <= later.at
        assert before.sequence <= after < later.sequence
        assert at.utcoffset() is not None

    def test_two_snapshots_may_be_open_at_once(self, store: Store) -> None:
        commit(store, a_log("a"))
        with store.snapshot() as first:
            commit(store, a_log("b"))
            with store.snapshot() as second:
                commit(store, a_log("c"))
                assert [row.key for row in sorted(second.rows("logs"))] == ["a", "b"]
            assert [row.key for row in first.rows("logs")] == ["a"]
            assert first.point.sequence < second.point.sequence

    def test_rows_can_be_read_again(self, store: Store) -> None:
        fill(store)
        with store.snapshot() as reader:
            once = stored_rows(reader, store.schema)
            assert stored_rows(reader, store.schema) == once

    def test_an_error_inside_the_block_passes_through(self, store: Store) -> None:
        commit(store, a_log("a"))
        with pytest.raises(ZeroDivisionError), store.snapshot():
            raise ZeroDivisionError

        assert stored(store)[1] == all_stored(store)

    def test_a_closed_store_has_no_snapshot(self, store: Store) -> None:
        store.close()

        with pytest.raises(StoreUnavailable, match="closed"), store.snapshot():
            pass

    def test_every_commit_up_to_its_position_is_in_it_and_none_after(
        self, store: Store
    ) -> None:
        found: list[tuple[LogPoint, Contents]] = []
        with writing(store, threads=8, times=12) as writers:
            while any(writer.thread.is_alive() for writer in writers):
                found.append(stored(store))
        found.append(stored(store))

        assert found[-1][1] == all_stored(store)
        for point, rows in found:
            assert list(_flat(rows, store)) == sorted(
                (row for writer in writers for row in writer.expected(point.sequence)),
                key=_place,
            )

    @requires("has_role")
    def test_its_rows_are_those_of_the_log_up_to_its_position(
        self, store: Store
    ) -> None:
        found: list[tuple[LogPoint, Contents]] = []
        with writing(store, threads=4, times=12) as writers:
            while any(writer.thread.is_alive() for writer in writers):
                found.append(stored(store))

        log = list(store.changes())
        for point, rows in found:
            model: dict[Place, tuple[int, Any]] = {}
            for change in log:
                if change.sequence <= point.sequence:
                    for r in change.records:
                        model[r.collection, r.key] = (r.version, r.record)
            wanted = [(place, *row) for place, row in model.items()]
            assert list(_flat(rows, store)) == sorted(wanted, key=_place)

    def test_a_record_can_be_written_while_its_snapshot_is_read(
        self, store: Store
    ) -> None:
        for n in range(5):
            commit(store, *(a_log(f"{n}-{i:03}") for i in range(300)))

        with store.snapshot() as reader:
            seen = 0
            for row in reader.rows("logs"):
                if seen % 300 == 0:
                    store.collection(Log).put(a_log(row.key, "changed"))
                    store.collection(Log).put(a_log(f"x{row.key}"))
                assert store.schema["logs"].codec.decode(row.body or b"").text == ""
                seen += 1

        assert seen == 1500


def _place(row: tuple[Place, int, Any]) -> Place:
    return row[0]


def _flat(rows: Contents, store: Store) -> Iterator[tuple[Place, int, Any]]:
    decoders: Mapping[str, Callable[[bytes], Any]] = {
        spec.name: spec.codec.decode for spec in store.schema
    }
    for name in sorted(rows):
        for row in rows[name]:
            record = None if row.body is None else decoders[name](row.body)
            yield (name, row.key), row.version, record
