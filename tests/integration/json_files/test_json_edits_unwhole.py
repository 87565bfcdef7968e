"""Legacy files that are not whole, or not what they should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage.events import Event
from pend_storage.pend import BlockchainEvent, User
from pend_storage.records import QuarantinedRecord
from pend_storage.stores.json import JsonStore

WALLETS = "wallet-db.json"
EVENTS = "explorer-data/transactions-log.json"


def wallet(number: int) -> tuple[str, str]:
    return f"0x{number:064x}", f"0x{number:040x}"


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "egp_minted",
        "timestamp": f"2025-06-19T07:58:{number:02}.380Z",
        "amount": "250",
        **more,
    }


def names(events: list[Event]) -> list[str]:
    return [e.name for e in events if e.name != "file-adopted"]


def addresses(store: JsonStore) -> dict[str, str]:
    return {u.phone_hash: u.blockchain_address for u in store.collection(User).scan()}


def ids(old: Any) -> list[int]:
    return [item["id"] for item in old.load(EVENTS)]


def legacy_ids(store: JsonStore) -> list[int]:
    return [item["id"] for item in store.legacy(EVENTS)]


def test_a_file_that_is_being_written_just_now_is_left_for_the_next_look(
    open_store: Callable[..., JsonStore], directory: Path, old: Any
) -> None:
    store = open_store()
    keeper = next(
        k
        for k in store._session.checkpointer._syncs  # type: ignore[union-attr]
        if k.layout.file == EVENTS
    )
    (directory / EVENTS).write_text('[{"id": 9, "ty')

    keeper.synchronise(force=False, wait=False)

    assert store.collection(QuarantinedRecord).count() == 0
    assert store.collection(BlockchainEvent).count() == 5


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_file_cut_to_nothing_is_written_again(
    text: str, store: JsonStore, old: Any, events: list[Event]
) -> None:
    old.put(EVENTS, text)

    store.checkpoint()

    assert ids(old) == [5, 4, 3, 2, 1]
    assert names(events) == ["file-restored"]
    store.checkpoint()
    assert names(events) == ["file-restored"]


def test_a_file_that_is_missing_is_written_again(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    (old.directory / EVENTS).unlink()

    store.checkpoint()
    store.checkpoint()

    assert ids(old) == [5, 4, 3, 2, 1]
    assert names(events) == ["file-restored"]


def test_an_empty_list_is_what_the_editor_meant(store: JsonStore, old: Any) -> None:
    old.put(EVENTS, "[]\n")

    store.checkpoint()

    assert store.collection(BlockchainEvent).count() == 0
    assert (old.directory / EVENTS).read_text() == "[]\n"


def test_a_file_broken_by_the_editor_is_left_alone_and_its_records_stay(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    broken = (old.directory / EVENTS).read_text()[:-30]
    old.put(EVENTS, broken)
    store.checkpoint()
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]
    changed = next(store.collection(BlockchainEvent).scan())
    store.collection(BlockchainEvent).put(replace(changed, status="failed"))
    store.checkpoint()

    assert (old.directory / EVENTS).read_text() == broken
    assert store.collection(BlockchainEvent).count() == 5
    assert wallet(9)[0] in old.load(WALLETS)
    (aside,) = store.collection(QuarantinedRecord).scan()
    assert aside.raw.decode() == broken
    assert "file-broken" in names(events)

    old.save(EVENTS, [event(n) for n in (6, 5, 4, 3, 2, 1)])
    store.checkpoint()

    assert store.collection(QuarantinedRecord).count() == 0
    assert ids(old) == [6, 5, 4, 3, 2, 1]
    assert sum(item.get("status") == "failed" for item in old.load(EVENTS)) == 1


def test_a_record_that_cannot_be_placed_stays_where_the_editor_put_it(
    store: JsonStore, old: Any
) -> None:
    edited = old.load(WALLETS)
    edited["not a hash"] = 17
    old.save(WALLETS, edited)
    store.checkpoint()
    store.legacy(WALLETS)[wallet(9)[0]] = wallet(9)[1]
    store.checkpoint()

    (aside,) = store.collection(QuarantinedRecord).scan()
    assert (aside.file, aside.place) == (WALLETS, "not a hash")
    assert list(old.load(WALLETS).items())[5:] == [("not a hash", 17), wallet(9)]


def test_a_unique_value_taken_elsewhere_puts_the_edit_in_quarantine(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    users = store.collection(User)
    users.put(User(phone_hash=wallet(8)[0], blockchain_address=wallet(8)[1]))

    old.save(WALLETS, {**old.load(WALLETS), wallet(7)[0]: wallet(8)[1]})
    store.checkpoint()

    assert "outside-edit-refused" in names(events)
    (aside,) = store.collection(QuarantinedRecord).scan()
    assert (aside.file, aside.place) == (WALLETS, wallet(7)[0])
    assert addresses(store)[wallet(8)[0]] == wallet(8)[1]
    assert store.legacy(WALLETS)[wallet(7)[0]] == wallet(8)[1]


def test_what_only_its_own_profile_refers_to_is_deleted_by_an_edit(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    edited = old.load(WALLETS)
    del edited[wallet(2)[0]]

    old.save(WALLETS, edited)
    store.checkpoint()
    store.checkpoint()

    assert "outside-edit-refused" not in names(events)
    assert wallet(2)[0] not in addresses(store)
    assert list(old.load(WALLETS)) == [wallet(n)[0] for n in (1, 3, 4, 5)]
