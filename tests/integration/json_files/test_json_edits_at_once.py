"""Legacy files that are changed while the store changes too."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage._files import directory as door
from pend_storage._files.directory import Directory
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.pend import BlockchainEvent, User
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


def test_commits_that_are_not_in_the_file_yet_are_no_deletions_by_the_editor(
    store: JsonStore, old: Any
) -> None:
    events = store.collection(BlockchainEvent)
    mine = next(e for e in events.scan() if e.legacy_id == "4")
    store.legacy(EVENTS).insert(0, event(7))
    events.put(replace(mine, status="confirmed"))
    events.delete(next(e.id for e in events.scan() if e.legacy_id == "1"))

    old.save(EVENTS, [event(6), *old.load(EVENTS)])
    store.checkpoint()

    assert sorted(legacy_ids(store)) == [2, 3, 4, 5, 6, 7]
    assert sorted(ids(old)) == [2, 3, 4, 5, 6, 7]
    found = events.get(mine.id)
    assert found is not None
    assert found.status == "confirmed"


def test_the_same_holds_after_a_snapshot_and_in_a_new_process(
    open_store: Callable[..., JsonStore], old: Any
) -> None:
    store = open_store()
    store.checkpoint()
    store.legacy(EVENTS).insert(0, event(7))
    store.collection(BlockchainEvent).delete(
        next(
            e.id for e in store.collection(BlockchainEvent).scan() if e.legacy_id == "1"
        )
    )
    store.compact()
    store.compact()
    crash(store)

    old.save(EVENTS, [event(6), *old.load(EVENTS)])

    assert sorted(legacy_ids(open_store())) == [2, 3, 4, 5, 6, 7]


def crash(store: JsonStore) -> None:
    """Let go of a store without the checkpoint that closing makes."""
    store._forked()
    store.close()


def test_of_a_record_that_both_change_each_side_keeps_its_fields(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    users = store.collection(User)
    mine = users.get_by("phone_hash", wallet(2)[0])
    assert mine is not None
    users.put(replace(mine, tier=5))

    old.save(WALLETS, {**old.load(WALLETS), wallet(2)[0]: wallet(7)[1]})
    store.checkpoint()

    found = users.get(mine.id)
    assert found is not None
    assert (found.tier, found.blockchain_address) == (5, wallet(7)[1])
    assert "outside-edit-met-commit" in names(events)


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("point", ["json.file-written", "json.file-noted"])
def test_an_edit_made_while_the_file_is_being_written_is_not_lost(
    point: str, renamed: bool, store: JsonStore, old: Any
) -> None:
    store.legacy(EVENTS).insert(0, event(6))
    edited: list[str] = []

    def edit(reached: str) -> None:
        if reached == point and not edited:
            edited.append(reached)
            text = json.dumps([*old.load(EVENTS), event(0)], indent=2)
            old.put(EVENTS, text, renamed=renamed)

    with crashpoints.handled(edit):
        store.checkpoint()

    assert edited
    assert legacy_ids(store) == [6, 5, 4, 3, 2, 1, 0]
    assert ids(old) == [6, 5, 4, 3, 2, 1, 0]


def test_an_edit_at_the_very_last_moment_is_put_back_and_adopted(
    store: JsonStore, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.legacy(EVENTS).insert(0, event(6))
    real = Directory.exchange
    edited: list[str] = []

    def exchange(self: Directory, new: str, name: str) -> bool:
        if not edited:
            edited.append(name)
            text = json.dumps([*old.load(EVENTS), event(0)], indent=2)
            old.put(EVENTS, text, renamed=True)
        return real(self, new, name)

    monkeypatch.setattr(Directory, "exchange", exchange)
    store.checkpoint()

    assert edited
    assert legacy_ids(store) == [6, 5, 4, 3, 2, 1, 0]
    assert ids(old) == [6, 5, 4, 3, 2, 1, 0]


def test_without_a_way_to_exchange_files_they_are_replaced(
    store: JsonStore, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "renameat2", lambda *_, **__: False)
    (old.directory / WALLETS).unlink()

    store.legacy(EVENTS).insert(0, event(6))
    store.checkpoint()

    assert ids(old) == [6, 5, 4, 3, 2, 1]
    assert old.load(WALLETS) == dict(wallet(n) for n in range(1, 6))


def test_processes_that_take_turns_are_no_editors_to_each_other(
    open_store: Callable[..., JsonStore], events: list[Event], directory: Path
) -> None:
    one, two = open_store(), open_store()

    for number, store in enumerate([one, two, one, two, two, one], 10):
        phone_hash, address = wallet(number)
        user = User(phone_hash=phone_hash, blockchain_address=address)
        store.collection(User).put(user)
        store.checkpoint()

    assert names(events) == []
    assert not (directory / ".pend-storage" / "kept").exists()


def test_another_process_finds_what_was_written_into_the_file_that_was_replaced(
    open_store: Callable[..., JsonStore], events: list[Event], old: Any
) -> None:
    one, two = open_store(), open_store()
    phone_hash, address = wallet(10)
    user = User(phone_hash=phone_hash, blockchain_address=address)
    with (old.directory / WALLETS).open("r+") as late:
        one.collection(User).put(user)
        one.checkpoint()
        late.write("[]   ")

    two.checkpoint()

    assert names(events) == ["late-edit-kept"]


def test_what_a_program_writes_into_the_file_that_was_replaced_is_kept(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    store.legacy(EVENTS).insert(0, event(6))
    with (old.directory / EVENTS).open("r+") as opened:
        store.checkpoint()
        opened.write("[]                      ")

    store.checkpoint()

    assert names(events) == ["late-edit-kept"]
    (kept,) = (old.directory / ".pend-storage" / "kept").iterdir()
    assert kept.read_text().startswith("[]   ")
    assert str(kept) in events[-1].message


def test_an_edit_is_adopted_once_even_if_that_could_not_be_noted(
    store: JsonStore, old: Any
) -> None:
    users = store.collection(User)
    old.save(WALLETS, {**old.load(WALLETS), wallet(2)[0]: wallet(7)[1]})

    def fail(point: str) -> None:
        if point == "json.edit-adopted":
            raise OSError(errno.EIO, "I/O error")

    with crashpoints.handled(fail), pytest.raises(StoreUnavailable):
        store.checkpoint()
    mine = users.get_by("phone_hash", wallet(2)[0])
    assert mine is not None
    assert mine.blockchain_address == wallet(7)[1]
    users.put(replace(mine, blockchain_address=wallet(8)[1]))
    store.checkpoint()

    assert addresses(store)[wallet(2)[0]] == wallet(8)[1]
    assert old.load(WALLETS)[wallet(2)[0]] == wallet(8)[1]


def test_the_same_edit_made_again_later_counts_again(
    store: JsonStore, old: Any
) -> None:
    edited = {**old.load(WALLETS), wallet(2)[0]: wallet(7)[1]}
    old.save(WALLETS, edited)
    store.checkpoint()
    store.legacy(WALLETS)[wallet(2)[0]] = wallet(8)[1]
    store.checkpoint()

    old.save(WALLETS, edited)
    store.checkpoint()

    assert addresses(store)[wallet(2)[0]] == wallet(7)[1]
