"""Load, save, edit, update and exists, on every store and in every phase."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from enum import IntEnum
from typing import Any

import pytest

from pend_storage import ConfigError, DualWriteStore, InvalidRecord, MergeConflict
from pend_storage.query import And, Query
from pend_storage.records import QuarantinedRecord
from pend_storage.store import Store

from .places import ADDRESSES, ANY, ANY_TOO, KYC, LOGS, SERVER_LOGS, WALLETS

pytestmark = pytest.mark.timeout(120)

TIME = "2026-01-01T00:00:00.000Z"


def quarantined(store: Store) -> list[QuarantinedRecord]:
    return [row.record for row in store.scan("quarantine")]


# -- as json.load and json.dump ----------------------------------------------------------


def test_a_file_that_does_not_exist(store: Store) -> None:
    default: dict[str, int] = {}

    with pytest.raises(FileNotFoundError, match=ANY):
        store.load(ANY)
    assert store.load(ANY, default) is default
    assert store.load(ANY, None) is None
    assert not store.exists(ANY)


@pytest.mark.parametrize("empty", [{}, []])
def test_an_empty_file_exists(store: Store, empty: Any) -> None:
    store.save(ANY, empty)

    assert store.exists(ANY)
    assert store.load(ANY) == empty


@pytest.mark.parametrize(
    "value",
    [
        {"ann": {"coins": 5, "bag": ["a", {"b": None}]}, "count": 2, "x": "text"},
        [1, "two", None, True, 1.5, {"id": 3}, ["nested"], 1],
        {"big": 12345678901234567890123, "small": 1e-9, "not": False, "é": "☃"},
    ],
)
def test_what_was_saved_is_loaded(store: Store, value: Any) -> None:
    store.save(ANY, value)

    loaded = store.load(ANY)

    assert loaded == value
    assert type(loaded) is type(value)
    assert list(loaded) == list(value)  # in the same order


def test_what_is_loaded_belongs_to_the_caller(store: Store) -> None:
    store.save(ANY, {"ann": {"coins": 5}})

    store.load(ANY)["ann"]["coins"] = 6

    assert store.load(ANY) == {"ann": {"coins": 5}}


def test_values_are_taken_as_json_dump_takes_them(store: Store) -> None:
    class Level(IntEnum):
        HIGH = 3

    value = {2: (1, 2), None: Level.HIGH, True: OrderedDict(a=1), 1.5: "x"}

    store.save(ANY, value)

    assert store.load(ANY) == json.loads(json.dumps(value))


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {(1, 2): 3}])
def test_what_json_dump_refuses_is_refused(store: Store, value: Any) -> None:
    with pytest.raises(TypeError):
        json.dumps(value)
    with pytest.raises(TypeError):
        store.save(ANY, value)
    assert not store.exists(ANY)


def test_a_value_in_itself_is_refused(store: Store) -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(ValueError, match="Circular"):
        store.save(ANY, value)


def test_a_live_view_can_be_saved(store: Store) -> None:
    store.save(ANY, {"ann": {"coins": 5}})

    store.save(ANY_TOO, store.legacy(ANY))

    assert store.load(ANY_TOO) == {"ann": {"coins": 5}}


def test_files_of_the_schema_become_their_records(store: Store) -> None:
    store.save(WALLETS, ADDRESSES)
    wallets = store.load(WALLETS)
    wallets[next(iter(wallets))] = f"0x{8:040x}"
    wallets |= {f"0x{9:064x}": f"0x{9:040x}"}

    store.save(WALLETS, wallets)

    assert store.load(WALLETS) == wallets
    assert store.collection("users").count() == len(wallets)


def test_an_object_around_a_list(store: Store) -> None:
    store.save(SERVER_LOGS, {"kept": 7, "logs": [{"n": 1}]})
    logs = store.load(SERVER_LOGS)
    logs["logs"].insert(0, {"n": 0})
    logs["more"] = {"deep": [1]}

    store.save(SERVER_LOGS, logs)

    assert store.load(SERVER_LOGS) == logs
    assert store.legacy(SERVER_LOGS).snapshot() == logs


def test_a_file_that_no_layout_claims(store: Store) -> None:
    for verb in (
        lambda: store.load("other.json", {}),
        lambda: store.save("other.json", {}),
        lambda: store.exists("other.json"),
        lambda: store.update("other.json", print),
        lambda: store.exclusive("other.json").__enter__(),
        lambda: store.edit("other.json").__enter__(),
    ):
        with pytest.raises(ConfigError, match=r"no layout claims.*other\.json"):
            verb()


@pytest.mark.parametrize(("file", "value"), [(LOGS, "x"), (WALLETS, [1]), (ANY, 5)])
def test_a_value_of_another_shape_is_refused(
    store: Store, file: str, value: Any
) -> None:
    with pytest.raises(InvalidRecord, match=file):
        store.save(file, value)
    assert not store.exists(file)


# -- the difference is what is written -----------------------------------------------------


def changed_since(store: Store, head: int) -> list[tuple[str, str]]:
    return [
        (record.collection, record.key)
        for change in store.changes(head)
        for record in change.records
    ]


def test_only_what_differs_is_written(store: Store) -> None:
    store.save(ANY, {f"m{n}": {"n": n} for n in range(50)})
    value = store.load(ANY)
    head = store.head()
    store.save(ANY, value)
    assert not changed_since(store, head)

    value["m7"]["n"] = -1
    store.save(ANY, value)

    assert [name for name, _ in changed_since(store, head)] == ["documents"]


def test_a_change_in_one_item_of_a_list(store: Store) -> None:
    store.save(ANY, [{"n": n} for n in range(50)])
    value = store.load(ANY)
    value[20]["n"] = "changed"
    head = store.head()

    store.save(ANY, value)

    assert store.load(ANY) == value
    # The old record, the new one, and where writers of one list meet.
    written = [name for name, _ in changed_since(store, head)]
    assert sorted(written) == ["documents", "documents", "legacy_files"]


def test_two_members_are_both_kept(store: Store) -> None:
    store.save(ANY, {"ann": {"coins": 5, "bag": []}, "bob": {"coins": 1}})
    mine, yours = store.load(ANY), store.load(ANY)
    mine["ann"]["coins"] += 1
    mine["cid"] = {}
    yours["ann"]["bag"].append("sword")
    yours["bob"]["coins"] = 0

    store.save(ANY, mine)
    store.save(ANY, yours)

    assert store.load(ANY) == {
        "ann": {"coins": 6, "bag": ["sword"]},
        "bob": {"coins": 0},
        "cid": {},
    }


def test_two_appends_are_both_kept(store: Store) -> None:
    store.save(ANY, ["a"])
    mine, yours = store.load(ANY), store.load(ANY)
    mine.append("x")
    yours.append("x")

    store.save(ANY, mine)
    store.save(ANY, yours)

    assert store.load(ANY) == ["a", "x", "x"]


def test_two_who_make_a_file(store: Store) -> None:
    mine, yours = store.load(ANY, []), store.load(ANY, [])
    mine.append("m")
    yours.append("y")

    store.save(ANY, mine)
    store.save(ANY, yours)

    assert store.load(ANY) == ["m", "y"]


def test_records_of_a_list_are_merged_by_their_keys(store: Store) -> None:
    store.save(ANY, [{"id": 1, "n": 0, "m": 0}, {"id": 2, "n": 0}])
    mine, yours = store.load(ANY), store.load(ANY)
    mine[0]["n"] = 1
    mine.append({"id": 3})
    del yours[1]
    yours[0]["m"] = 2
    yours.append({"id": 4})

    store.save(ANY, mine)
    store.save(ANY, yours)

    assert store.load(ANY) == [{"id": 1, "n": 1, "m": 2}, {"id": 3}, {"id": 4}]


def test_members_beside_a_list_are_merged(store: Store) -> None:
    store.save(SERVER_LOGS, {"a": 1, "b": 1, "logs": []})
    mine, yours = store.load(SERVER_LOGS), store.load(SERVER_LOGS)
    mine["a"] = 2
    mine["logs"].append("mine")
    yours["b"] = 2
    yours["logs"].append("yours")

    store.save(SERVER_LOGS, mine)
    store.save(SERVER_LOGS, yours)

    assert store.load(SERVER_LOGS) == {"a": 2, "b": 2, "logs": ["mine", "yours"]}


def test_the_same_member_changed_both_ways(store: Store) -> None:
    store.save(ANY, {"ann": {"coins": 5}, "bob": 1})
    mine, yours = store.load(ANY), store.load(ANY)
    mine["ann"]["coins"] = 6
    yours["ann"]["coins"] = 7
    yours["bob"] = 2
    store.save(ANY, mine)

    with pytest.raises(MergeConflict, match=r"consents-db\.json: 'ann\.coins'") as info:
        store.save(ANY, yours)

    assert (info.value.file, info.value.member) == (ANY, ("ann", "coins"))
    assert store.load(ANY) == {"ann": {"coins": 6}, "bob": 1}


def test_what_one_deletes_and_the_other_changes(store: Store) -> None:
    store.save(ANY, {"ann": 1, "bob": 1})
    mine, yours = store.load(ANY), store.load(ANY)
    del mine["ann"], yours["bob"]
    yours["ann"] = 2
    store.save(ANY, mine)

    with pytest.raises(MergeConflict):
        store.save(ANY, yours)


def test_both_change_a_member_alike(store: Store) -> None:
    store.save(ANY, {"ann": 1, "bob": 1})
    mine, yours = store.load(ANY), store.load(ANY)
    mine["ann"] = yours["ann"] = 2
    del mine["bob"], yours["bob"]

    store.save(ANY, mine)
    store.save(ANY, yours)

    assert store.load(ANY) == {"ann": 2}


# -- what a value is compared with ---------------------------------------------------------


def test_a_value_that_is_saved_again_and_again(store: Store) -> None:
    mine = store.load(ANY, {})
    mine["a"] = 1
    store.save(ANY, mine)
    with store.edit(ANY) as others:
        others["b"] = 2
    mine["c"] = 3
    store.save(ANY, mine)
    del mine["a"]

    store.save(ANY, mine)

    assert store.load(ANY) == {"b": 2, "c": 3}
    assert mine == {"c": 3}


def test_an_older_load_takes_nothing_back(store: Store) -> None:
    store.save(ANY, {"n": 1})
    older = store.load(ANY)
    with store.edit(ANY) as others:
        others["n"] = 2
    assert store.load(ANY) == {"n": 2}
    older["m"] = 1

    store.save(ANY, older)

    assert store.load(ANY) == {"n": 2, "m": 1}


def test_a_list_built_anew_from_what_was_loaded(store: Store) -> None:
    store.save(ANY, ["a", "b", "c"])
    mine = [item for item in store.load(ANY) if item != "b"]
    with store.edit(ANY) as others:
        others.append("d")

    store.save(ANY, mine)

    assert store.load(ANY) == ["a", "c", "d"]


def test_a_value_of_another_thread_is_known_again(store: Store) -> None:
    store.save(ANY, {"a": 1})
    shared = store.load(ANY)
    with store.edit(ANY) as others:
        others["b"] = 2
    shared["c"] = 3

    thread = threading.Thread(target=store.save, args=(ANY, shared))
    thread.start()
    thread.join()

    assert store.load(ANY) == {"a": 1, "b": 2, "c": 3}


def test_a_value_that_was_never_loaded_replaces_the_file(store: Store) -> None:
    def others() -> None:
        store.save(ANY, {"a": 1, "b": 2})

    thread = threading.Thread(target=others)
    thread.start()
    thread.join()

    store.save(ANY, {"b": 3})

    assert store.load(ANY) == {"b": 3}


def test_what_was_saved_is_what_the_caller_knows(store: Store) -> None:
    store.save(ANY, {"a": 1})
    thread = threading.Thread(target=lambda: store.update(ANY, lambda d: d.update(b=2)))
    thread.start()
    thread.join()

    store.save(ANY, {"a": 1, "c": 3})

    assert store.load(ANY) == {"a": 1, "b": 2, "c": 3}


def test_a_conflict_leaves_the_base_as_it_was(store: Store) -> None:
    store.save(ANY, {"a": 1})
    mine = store.load(ANY)
    with store.edit(ANY) as others:
        others["a"] = 2
    mine["a"] = 3
    for _ in range(2):
        with pytest.raises(MergeConflict):
            store.save(ANY, mine)
    mine["a"] = 1

    store.save(ANY, mine)

    assert store.load(ANY) == {"a": 2}


# -- edit and update -----------------------------------------------------------------------


def test_an_edit_changes_in_place(store: Store) -> None:
    store.save(ANY, {"users": {"111": {"wallet": 5}}})

    with store.edit(ANY) as data:
        data["users"]["111"]["wallet"] += 5

    assert store.load(ANY) == {"users": {"111": {"wallet": 10}}}


def test_an_edit_of_a_file_that_does_not_exist(store: Store) -> None:
    with store.edit(ANY, ANY_TOO) as (made, untouched):
        made["a"] = 1
        assert untouched == {}

    assert store.load(ANY) == {"a": 1}
    assert not store.exists(ANY_TOO)


def test_two_files_change_together(store: Store) -> None:
    head = store.head()

    with store.edit(ANY, SERVER_LOGS) as (accounts, logs):
        accounts["ann"] = 1
        logs["logs"].append("ann came")

    (change,) = store.changes(head)
    assert len(change.records) >= 2
    assert store.load(SERVER_LOGS)["logs"] == ["ann came"]


def test_two_files_that_tell_of_the_same_record(store: Store) -> None:
    phone = next(iter(ADDRESSES))
    with store.edit(WALLETS, KYC) as (wallets, kyc):
        wallets[phone] = ADDRESSES[phone]
        kyc[phone] = {"verificationStatus": "verified", "lastUpdated": TIME}

    assert store.load(WALLETS) == {phone: ADDRESSES[phone]}
    assert store.collection("users").count() == 1


def test_a_conflict_in_one_of_two_files_writes_neither(store: Store) -> None:
    store.save(ANY, {"n": 1})

    def both() -> None:
        with store.edit(ANY, ANY_TOO) as (one, other):
            one["n"] = 2
            other["n"] = 2
            store.save(ANY, {"n": 3})

    with pytest.raises(MergeConflict):
        both()
    assert store.load(ANY) == {"n": 3}
    assert not store.exists(ANY_TOO)


def test_an_exception_in_an_edit_writes_nothing(store: Store) -> None:
    def fails() -> None:
        with store.edit(ANY) as data:
            data["a"] = 1
            raise KeyError("b")

    with pytest.raises(KeyError):
        fails()
    assert not store.exists(ANY)


def test_an_edit_takes_each_file_once(store: Store) -> None:
    for files in ((), (ANY, ANY)):
        with pytest.raises(ConfigError, match="once"), store.edit(*files):
            pass


def test_an_update_is_repeated_where_it_met_others(store: Store) -> None:
    store.save(ANY, {"n": 1})
    calls = []

    def increment(data: dict[str, int]) -> int:
        calls.append(data["n"])
        if len(calls) == 1:
            store.save(ANY, {"n": 10})
        data["n"] += 1
        return data["n"]

    assert store.update(ANY, increment) == 11
    assert calls == [1, 10]
    assert store.load(ANY) == {"n": 11}


# -- what cannot be placed -----------------------------------------------------------------


def test_what_a_file_may_say_a_value_may_say(store: Store) -> None:
    phone = next(iter(ADDRESSES))
    value = {"not a hash": 5, phone: ADDRESSES[phone]}

    store.save(WALLETS, value)

    assert store.load(WALLETS) == value
    (waits,) = quarantined(store)
    assert waits.place == "not a hash"
    wallets = store.load(WALLETS)
    wallets["another"] = 6
    store.save(WALLETS, wallets)
    assert store.load(WALLETS) == {**value, "another": 6}
    assert waits in quarantined(store)


def test_what_is_in_quarantine_is_corrected_and_removed(store: Store) -> None:
    store.save(KYC, {"bad": 5, "worse": 6, next(iter(ADDRESSES)): {"x": 1}})
    wallets = store.load(KYC)
    del wallets["bad"], wallets[next(iter(ADDRESSES))]
    wallets["worse"] = 7

    store.save(KYC, wallets)

    assert store.load(KYC) == {"worse": 7}
    assert [(r.place, r.raw) for r in quarantined(store)] == [("worse", b'"worse": 7')]


def test_not_a_number_stays_in_its_place(store: Store) -> None:
    store.save(ANY, {"a": float("nan"), "b": "\ud800", "c": 1})
    value = store.load(ANY)
    assert value["a"] != value["a"]
    assert value["b"] == "\ud800"
    value["c"] = 2

    store.save(ANY, value)

    assert len(quarantined(store)) == 2
    assert store.load(ANY)["c"] == 2


def test_strictly_nothing_goes_to_quarantine(store: Store) -> None:
    with pytest.raises(InvalidRecord, match="not a hash"):
        store.save(WALLETS, {"not a hash": 5}, strict=True)
    with (
        pytest.raises(InvalidRecord, match="not a hash"),
        store.edit(WALLETS, strict=True) as data,
    ):
        data["not a hash"] = 5
    assert not store.exists(WALLETS)
    assert not quarantined(store)


def test_an_event_tells_what_went_to_quarantine(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(WALLETS, {"not a hash": 5})

    told = [r.getMessage() for r in caplog.records if r.name == "pend_storage"]
    assert any("file-write-quarantined" in t and "not a hash" in t for t in told), told


def test_what_claims_a_value_that_is_taken_waits_in_its_place(store: Store) -> None:
    (one, address), (two, other), *_ = ADDRESSES.items()
    store.save(WALLETS, {one: address})
    wallets = store.load(WALLETS)
    wallets[two] = address

    store.save(WALLETS, wallets)

    assert store.load(WALLETS) == {one: address, two: address}
    assert [record.place for record in quarantined(store)] == [two]
    wallets[two] = other
    store.save(WALLETS, wallets)
    assert store.load(WALLETS) == {one: address, two: other}
    assert not quarantined(store)


def test_what_was_told_by_a_deleted_member_goes_with_it(store: Store) -> None:
    store.save(WALLETS, ADDRESSES)
    wallets = store.load(WALLETS)
    gone = next(iter(wallets))
    del wallets[gone]

    store.save(WALLETS, wallets)

    assert store.load(WALLETS) == wallets
    assert store.collection("users").count() == len(wallets)
    assert store.collection("user_profiles").count() == len(wallets)
    wallets[gone] = ADDRESSES[gone]
    store.save(WALLETS, wallets)
    assert store.load(WALLETS) == wallets


def test_a_record_that_cannot_be_placed_any_more(store: Store) -> None:
    phone, address = next(iter(ADDRESSES.items()))
    store.save(WALLETS, {phone: address})
    for value in (5, 6):
        store.save(WALLETS, {phone: value})
        assert store.load(WALLETS) == {phone: value}
        assert store.collection("users").count() == 0

    store.save(WALLETS, {phone: address})

    assert store.load(WALLETS) == {phone: address}
    assert not quarantined(store)


def test_unique_values_change_places_in_one_save(store: Store) -> None:
    (one, address), (two, other), *_ = ADDRESSES.items()
    store.save(WALLETS, {one: address, two: other})
    wallets = store.load(WALLETS)
    wallets[one], wallets[two] = wallets[two], wallets[one]

    store.save(WALLETS, wallets)

    assert store.load(WALLETS) == {one: other, two: address}
    assert not quarantined(store)


# -- between stores, and among writers -----------------------------------------------------


def test_both_stores_of_a_pair_say_the_same(store: Store) -> None:
    if not isinstance(store, DualWriteStore):
        pytest.skip("not a pair")
    value = {"ann": {"coins": 5, "exact": 0.1}, "list": [1, [2]]}
    store.save(ANY, value)
    store.save(SERVER_LOGS, {"n": 1, "logs": ["a", "b"]})

    store.catch_up()

    if store.phase in {"parallel", "postgres-primary"}:
        assert store.validate().ok
        sides = [side.query for side in (store._pair.json, store._pair.postgres)]
        one, other = (rows("documents", Query(And(()))) for rows in sides)
        assert one == other
        assert len(one) == 4


def test_many_writers_of_each_verb(store: Store) -> None:
    """Every addition of every thread is there at the end."""
    store.save(ANY, {"log": [], "counts": {}})

    def save(n: int) -> None:
        data = store.load(ANY)
        data["log"].append(f"save {n}")
        store.save(ANY, data)

    def edit(n: int) -> None:
        with store.edit(ANY) as data:
            data["log"].append(f"edit {n}")

    def update(n: int) -> None:
        def change(data: dict[str, Any]) -> None:
            data["log"].append(f"update {n}")
            data["counts"]["updates"] = data["counts"].get("updates", 0) + 1

        store.update(ANY, change)

    def repeat(verb: Any) -> None:
        try:
            for n in range(5):
                verb(n)
        except Exception as error:  # noqa: BLE001 - told at the end
            failed.append(error)

    failed: list[Exception] = []
    verbs = [save, edit, update] * 2
    threads = [threading.Thread(target=repeat, args=(verb,)) for verb in verbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed
    data = store.load(ANY)
    assert data["counts"] == {"updates": 10}
    assert len(data["log"]) == 30
