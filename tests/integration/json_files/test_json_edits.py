"""Legacy files that another program edits while a JSON store is open."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pend_storage.events import Event
from pend_storage.pend import BlockchainEvent, Document, User
from pend_storage.phases import ROLE_META, Role, RoleState
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


def test_a_record_added_by_the_editor_becomes_a_commit(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    old.save(WALLETS, {**old.load(WALLETS), wallet(6)[0]: wallet(6)[1]})
    before = (old.directory / WALLETS).read_bytes()

    store.checkpoint()

    assert addresses(store)[wallet(6)[0]] == wallet(6)[1]
    written = [r.record for change in store.changes() for r in change.records]
    assert any(isinstance(r, User) for r in written)
    assert (old.directory / WALLETS).read_bytes() == before
    assert names(events) == ["outside-edit-adopted"]


def test_a_record_changed_by_the_editor_keeps_what_the_file_cannot_tell(
    store: JsonStore, old: Any
) -> None:
    users = store.collection(User)
    mine = users.get_by("phone_hash", wallet(2)[0])
    assert mine is not None
    version = users.put(replace(mine, tier=4))
    store.checkpoint()

    old.save(WALLETS, {**old.load(WALLETS), wallet(2)[0]: wallet(7)[1]})
    store.checkpoint()

    found = users.versioned(mine.id)
    assert found is not None
    assert (found.record.tier, found.record.blockchain_address) == (4, wallet(7)[1])
    assert found.version > version


def test_a_record_deleted_by_the_editor_is_deleted(store: JsonStore, old: Any) -> None:
    old.save(EVENTS, [item for item in old.load(EVENTS) if item["id"] != 3])

    store.checkpoint()

    assert legacy_ids(store) == [5, 4, 2, 1]
    assert store.collection(BlockchainEvent).count() == 4
    assert ids(old) == [5, 4, 2, 1]


def test_what_is_added_behind_a_record_without_a_place_is_adopted(
    store: JsonStore, old: Any
) -> None:
    made = Document(file="consents-db.json", key="a", body=1, created_at=None)
    store.collection(Document).put(made)
    store.checkpoint()

    old.save("consents-db.json", {**old.load("consents-db.json"), "b": 2})
    store.checkpoint()

    assert store.legacy("consents-db.json").snapshot() == {"a": 1, "b": 2}
    assert list(old.load("consents-db.json")) == ["a", "b"]


@pytest.mark.parametrize(
    "order",
    [
        [6, 5, 4, 3, 2, 1],
        [5, 4, 3, 6, 2, 1],
        [5, 4, 3, 2, 1, 6],
        [1, 2, 3, 4, 5],
        [4, 3, 2, 1, 5],
        [8, 7, 2, 5, 6, 1],
    ],
)
def test_an_order_made_by_the_editor_stays(
    order: list[int], store: JsonStore, old: Any
) -> None:
    old.save(EVENTS, [event(n) for n in order])
    store.checkpoint()
    text = (old.directory / EVENTS).read_text()

    store.legacy(EVENTS).insert(0, event(9))
    store.checkpoint()

    assert legacy_ids(store) == [9, *order]
    assert ids(old) == [9, *order]
    assert (old.directory / EVENTS).read_text().endswith(text.removeprefix("[\n"))


def test_a_file_written_anew_in_another_style_changes_no_record(
    store: JsonStore, old: Any
) -> None:
    before = {row.key: row.version for row in store.scan("blockchain_events")}

    old.save(EVENTS, old.load(EVENTS), indent=None)
    store.checkpoint()
    store.legacy(EVENTS).insert(0, event(6))
    store.checkpoint()

    after = {row.key: row.version for row in store.scan("blockchain_events")}
    assert {key: after[key] for key in before} == before
    assert ids(old) == [6, 5, 4, 3, 2, 1]
    assert "\n" not in (old.directory / EVENTS).read_text()


def test_an_edit_by_rename_is_adopted_too(store: JsonStore, old: Any) -> None:
    text = json.dumps([event(n) for n in (7, 5, 4, 3, 2, 1)])

    old.put(EVENTS, text, renamed=True)
    store.checkpoint()

    assert legacy_ids(store) == [7, 5, 4, 3, 2, 1]
    assert (old.directory / EVENTS).read_text() == text


def test_an_edit_made_while_nobody_had_the_store_open_is_adopted_at_opening(
    open_store: Callable[..., JsonStore], old: Any
) -> None:
    open_store().close()
    old.save(EVENTS, [event(6), *old.load(EVENTS)])

    assert legacy_ids(open_store()) == [6, 5, 4, 3, 2, 1]


def test_an_edit_of_the_same_length_in_the_same_tick_is_found_a_little_later(
    store: JsonStore, old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.legacy(WALLETS)[wallet(6)[0]] = wallet(6)[1]
    store.checkpoint()
    path = old.directory / WALLETS
    before = path.stat()
    path.write_text(path.read_text().replace(wallet(6)[1], wallet(7)[1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size

    later = time.time() + 5
    monkeypatch.setattr(time, "time", lambda: later)
    store.checkpoint()

    assert addresses(store)[wallet(6)[0]] == wallet(7)[1]


def test_a_touched_file_is_no_edit(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    os.utime(old.directory / WALLETS, ns=(0, 0))

    store.checkpoint()

    assert names(events) == []
    assert list(store.changes()) == []


def become(store: JsonStore, role: Role) -> None:
    before = store.meta(ROLE_META)
    assert store.compare_and_set_meta(ROLE_META, before, RoleState(role, 1).to_meta())


def test_as_secondary_an_edit_is_kept_in_quarantine_and_overwritten(
    store: JsonStore, old: Any, events: list[Event]
) -> None:
    become(store, Role.SECONDARY)
    before = (old.directory / WALLETS).read_text()
    edited = old.load(WALLETS) | dict([wallet(6)]) | {wallet(2)[0]: wallet(7)[1]}
    del edited[wallet(1)[0]]

    old.save(WALLETS, edited)
    store.checkpoint()

    assert addresses(store) == dict(wallet(n) for n in range(1, 6))
    assert (old.directory / WALLETS).read_text() == before
    aside = {r.raw.decode() for r in store.collection(QuarantinedRecord).scan()}
    assert aside == {
        f'"{wallet(6)[0]}": "{wallet(6)[1]}"',
        f'"{wallet(2)[0]}": "{wallet(7)[1]}"',
    }
    assert names(events) == ["outside-edit-quarantined"]
    assert list(store.changes()) == []


def test_while_fenced_an_edit_waits(store: JsonStore, old: Any) -> None:
    become(store, Role.FENCED)
    old.save(EVENTS, [event(6), *old.load(EVENTS)])
    store.checkpoint()
    assert ids(old) == [6, 5, 4, 3, 2, 1]
    assert store.collection(BlockchainEvent).count() == 5

    become(store, Role.PRIMARY)
    store.checkpoint()

    assert store.collection(BlockchainEvent).count() == 6
