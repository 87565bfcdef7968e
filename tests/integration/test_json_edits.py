"""Legacy files that somebody else changes while a JSON store is open."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA, BlockchainEvent, User
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


class Editor:
    """Old code: reads a file, changes it, writes it whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, file: str) -> Any:
        return json.loads((self.directory / file).read_text())

    def save(self, file: str, value: Any, *, indent: int | None = 2) -> None:
        self.put(file, json.dumps(value, indent=indent))

    def put(self, file: str, text: str, *, renamed: bool = False) -> None:
        path = self.directory / file
        if renamed:
            new = path.with_suffix(".tmp")
            new.write_text(text)
            new.rename(path)
        else:
            path.write_text(text)
        age(path)


def age(path: Path) -> None:
    """Make a file look as if its writer had finished a while ago."""
    status = path.stat()
    before = status.st_mtime_ns - 2_000_000_000
    os.utime(path, ns=(status.st_atime_ns, before))


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "explorer-data").mkdir()
    old = Editor(tmp_path)
    old.save(WALLETS, dict(wallet(n) for n in range(1, 6)))
    old.save(EVENTS, [event(n) for n in range(5, 0, -1)])
    return tmp_path


@pytest.fixture
def old(directory: Path) -> Editor:
    return Editor(directory)


@pytest.fixture
def open_store(
    directory: Path, events: list[Event]
) -> Iterator[Callable[..., JsonStore]]:
    opened: list[JsonStore] = []

    def open_it(**settings: Any) -> JsonStore:
        settings = {"checkpoint_interval": None, "hook": events.append} | settings
        opened.append(JsonStore(SCHEMA, directory, layouts=LAYOUTS, **settings))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., JsonStore]) -> JsonStore:
    return open_store()


def names(events: list[Event]) -> list[str]:
    return [e.name for e in events if e.name != "file-adopted"]


def addresses(store: JsonStore) -> dict[str, str]:
    return {u.phone_hash: u.blockchain_address for u in store.collection(User).scan()}


def ids(old: Editor) -> list[int]:
    return [item["id"] for item in old.load(EVENTS)]


def legacy_ids(store: JsonStore) -> list[int]:
    return [item["id"] for item in store.legacy(EVENTS)]


# -- what an editor does ----------------------------------------------------------------------


def test_a_record_added_by_the_editor_becomes_a_commit(
    store: JsonStore, old: Editor, events: list[Event]
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
    store: JsonStore, old: Editor
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


def test_a_record_deleted_by_the_editor_is_deleted(
    store: JsonStore, old: Editor
) -> None:
    old.save(EVENTS, [item for item in old.load(EVENTS) if item["id"] != 3])

    store.checkpoint()

    assert legacy_ids(store) == [5, 4, 2, 1]
    assert store.collection(BlockchainEvent).count() == 4
    assert ids(old) == [5, 4, 2, 1]


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
    order: list[int], store: JsonStore, old: Editor
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
    store: JsonStore, old: Editor
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


def test_an_edit_by_rename_is_adopted_too(store: JsonStore, old: Editor) -> None:
    text = json.dumps([event(n) for n in (7, 5, 4, 3, 2, 1)])

    old.put(EVENTS, text, renamed=True)
    store.checkpoint()

    assert legacy_ids(store) == [7, 5, 4, 3, 2, 1]
    assert (old.directory / EVENTS).read_text() == text


def test_an_edit_made_while_nobody_had_the_store_open_is_adopted_at_opening(
    open_store: Callable[..., JsonStore], old: Editor
) -> None:
    open_store().close()
    old.save(EVENTS, [event(6), *old.load(EVENTS)])

    assert legacy_ids(open_store()) == [6, 5, 4, 3, 2, 1]


def test_an_edit_of_the_same_length_in_the_same_tick_is_found_a_little_later(
    store: JsonStore, old: Editor, monkeypatch: pytest.MonkeyPatch
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
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    os.utime(old.directory / WALLETS, ns=(0, 0))

    store.checkpoint()

    assert names(events) == []
    assert list(store.changes()) == []


# -- at the same time -----------------------------------------------------------------------


def test_commits_that_are_not_in_the_file_yet_are_no_deletions_by_the_editor(
    store: JsonStore, old: Editor
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
    open_store: Callable[..., JsonStore], old: Editor
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
    store: JsonStore, old: Editor, events: list[Event]
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
    point: str, renamed: bool, store: JsonStore, old: Editor
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
    store: JsonStore, old: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pend_storage.stores.json import disk, swap

    store.legacy(EVENTS).insert(0, event(6))
    real = disk.exchange
    edited: list[Path] = []

    def exchange(new: Path, target: Path) -> bool:
        if not edited:
            edited.append(target)
            text = json.dumps([*old.load(EVENTS), event(0)], indent=2)
            old.put(EVENTS, text, renamed=True)
        return real(new, target)

    monkeypatch.setattr(swap, "exchange", exchange)
    store.checkpoint()

    assert edited
    assert legacy_ids(store) == [6, 5, 4, 3, 2, 1, 0]
    assert ids(old) == [6, 5, 4, 3, 2, 1, 0]


def test_without_a_way_to_exchange_files_they_are_replaced(
    store: JsonStore, old: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pend_storage.stores.json import disk

    monkeypatch.setattr(disk, "_renameat2", lambda *_: False)
    (old.directory / WALLETS).unlink()

    store.legacy(EVENTS).insert(0, event(6))
    store.checkpoint()

    assert ids(old) == [6, 5, 4, 3, 2, 1]
    assert old.load(WALLETS) == dict(wallet(n) for n in range(1, 6))


def test_what_a_program_writes_into_the_file_that_was_replaced_is_kept(
    store: JsonStore, old: Editor, events: list[Event]
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
    store: JsonStore, old: Editor
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
    store: JsonStore, old: Editor
) -> None:
    edited = {**old.load(WALLETS), wallet(2)[0]: wallet(7)[1]}
    old.save(WALLETS, edited)
    store.checkpoint()
    store.legacy(WALLETS)[wallet(2)[0]] = wallet(8)[1]
    store.checkpoint()

    old.save(WALLETS, edited)
    store.checkpoint()

    assert addresses(store)[wallet(2)[0]] == wallet(7)[1]


# -- files that are not whole -----------------------------------------------------------------


def test_a_file_that_is_being_written_just_now_is_left_for_the_next_look(
    open_store: Callable[..., JsonStore], directory: Path, old: Editor
) -> None:
    store = open_store()
    keeper = next(
        k
        for k in store._checkpointer._keepers  # type: ignore[union-attr]
        if k.layout.file == EVENTS
    )
    (directory / EVENTS).write_text('[{"id": 9, "ty')

    keeper.keep(force=False, wait=False)

    assert store.collection(QuarantinedRecord).count() == 0
    assert store.collection(BlockchainEvent).count() == 5


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_file_cut_to_nothing_is_written_again(
    text: str, store: JsonStore, old: Editor, events: list[Event]
) -> None:
    old.put(EVENTS, text)

    store.checkpoint()

    assert ids(old) == [5, 4, 3, 2, 1]
    assert names(events) == ["file-restored"]
    store.checkpoint()
    assert names(events) == ["file-restored"]


def test_a_file_that_is_missing_is_written_again(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    (old.directory / EVENTS).unlink()

    store.checkpoint()
    store.checkpoint()

    assert ids(old) == [5, 4, 3, 2, 1]
    assert names(events) == ["file-restored"]


def test_an_empty_list_is_what_the_editor_meant(store: JsonStore, old: Editor) -> None:
    old.put(EVENTS, "[]\n")

    store.checkpoint()

    assert store.collection(BlockchainEvent).count() == 0
    assert (old.directory / EVENTS).read_text() == "[]\n"


def test_a_file_broken_by_the_editor_is_left_alone_and_its_records_stay(
    store: JsonStore, old: Editor, events: list[Event]
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
    store: JsonStore, old: Editor
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
    store: JsonStore, old: Editor, events: list[Event]
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


def test_what_others_refer_to_is_not_deleted_by_an_edit(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    edited = old.load(WALLETS)
    del edited[wallet(2)[0]]

    old.save(WALLETS, edited)
    store.checkpoint()
    store.checkpoint()

    assert names(events)[:1] == ["outside-edit-refused"]
    assert wallet(2)[0] in addresses(store)
    assert list(old.load(WALLETS)) == [wallet(n)[0] for n in range(1, 6)]


# -- roles --------------------------------------------------------------------------------------


def become(store: JsonStore, role: Role) -> None:
    before = store.meta(ROLE_META)
    assert store.compare_and_set_meta(ROLE_META, before, RoleState(role, 1).to_meta())


def test_as_secondary_an_edit_is_kept_in_quarantine_and_overwritten(
    store: JsonStore, old: Editor, events: list[Event]
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


def test_while_fenced_an_edit_waits(store: JsonStore, old: Editor) -> None:
    become(store, Role.FENCED)
    old.save(EVENTS, [event(6), *old.load(EVENTS)])
    store.checkpoint()
    assert ids(old) == [6, 5, 4, 3, 2, 1]
    assert store.collection(BlockchainEvent).count() == 5

    become(store, Role.PRIMARY)
    store.checkpoint()

    assert store.collection(BlockchainEvent).count() == 6
