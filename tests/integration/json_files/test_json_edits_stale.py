"""Old code that writes back a copy of a file which it loaded some time ago."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pend_storage.events import Event
from pend_storage.operations.quarantine import list_quarantined, retry
from pend_storage.pend import BlockchainEvent
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._legacy_sync.stale_copies import EditedText, older_copy
from pend_storage.stores.json._legacy_sync.text_history import (
    ABSENT,
    UNCLEAR,
    TextHistory,
    digest_of_text,
)
from tests.integration.json_files.conftest import Editor
from tests.integration.json_files.test_json_edits_settled import lost

TIERS = "admin-pool-tiers.json"
EVENTS = "explorer-data/transactions-log.json"
WALLETS = "wallet-db.json"


def told(events: list[Event]) -> list[str]:
    return [event.message for event in events if event.name == "stale-copy"]


def prepared(store: JsonStore, old: Editor) -> tuple[Any, Any]:
    """A view of a file with three members, and a copy that was loaded then."""
    view = store.legacy(TIERS)
    view.update({"a": 1, "b": 1, "c": 1})
    store.checkpoint()
    return view, old.load(TIERS)


def both(store: JsonStore, old: Editor) -> Any:
    store.checkpoint()
    store.checkpoint()
    shown = store.legacy(TIERS).snapshot()
    assert old.load(TIERS) == shown
    return shown


# -- recognised -------------------------------------------------------------------------


def test_one_changed_record_in_a_stale_copy_undoes_no_other(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, copy = prepared(store, old)
    view["a"] = 2
    store.checkpoint()

    old.save(TIERS, {**copy, "b": 9})

    assert both(store, old) == {"a": 2, "b": 9, "c": 1}
    assert lost(store, TIERS) == [{"a": 1}]
    (message,) = told(events)
    assert "'a'" in message
    assert [e.level for e in events if e.name == "stale-copy"] == [30]


def test_what_came_into_the_file_later_is_no_deletion_of_a_stale_copy(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, copy = prepared(store, old)
    view["new"] = 5
    store.checkpoint()
    view["newer"] = 6
    store.checkpoint()

    del copy["c"]
    old.save(TIERS, {**copy, "b": 9})

    assert both(store, old) == {"a": 1, "b": 9, "new": 5, "newer": 6}
    assert lost(store, TIERS) == []
    assert ["'new', 'newer'" in message for message in told(events)] == [True]


def test_what_was_deleted_does_not_come_back_with_a_stale_copy(
    store: JsonStore, old: Editor
) -> None:
    view, copy = prepared(store, old)
    del view["a"]
    store.checkpoint()

    old.save(TIERS, {**copy, "b": 9})

    assert both(store, old) == {"b": 9, "c": 1}
    assert lost(store, TIERS) == [{"a": 1}]
    (found,) = list_quarantined(store, file=TIERS)
    assert retry(store, found).placed
    assert both(store, old) == {"a": 1, "b": 9, "c": 1}


def test_a_copy_that_is_written_back_as_it_was_undoes_nothing(
    open_store: Callable[..., JsonStore], old: Editor, events: list[Event]
) -> None:
    store = open_store()
    view, copy = prepared(store, old)
    view.update({"a": 2, "b": 2, "d": 2})
    store.checkpoint()
    for _ in range(2):  # and again, and by another process
        old.save(TIERS, copy, indent=None)
        assert both(store, old) == {"a": 2, "b": 2, "c": 1, "d": 2}
        store.close()
        store = open_store()
    old.save(TIERS, copy, indent=4)
    assert both(store, old) == {"a": 2, "b": 2, "c": 1, "d": 2}
    assert len(told(events)) == 3


def test_a_record_that_a_stale_copy_changes_too_counts_and_the_commit_is_kept(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, copy = prepared(store, old)
    view.update({"a": 2, "b": 2})
    store.checkpoint()

    old.save(TIERS, {**copy, "b": 9})

    assert both(store, old) == {"a": 2, "b": 9, "c": 1}
    assert sorted(map(str, lost(store, TIERS))) == ["{'a': 1}", "{'b': 2}"]
    (message,) = told(events)
    assert "Of 'b', which it changes" in message


def test_what_a_stale_copy_showed_is_part_of_what_was_shown(
    store: JsonStore, old: Editor
) -> None:
    view, copy = prepared(store, old)
    view.update({"a": 2, "b": 2})
    store.checkpoint()
    later = old.load(TIERS)
    view.update({"a": 3, "b": 3})
    old.save(TIERS, copy)
    assert both(store, old) == {"a": 3, "b": 3, "c": 1}

    old.save(TIERS, later)

    assert both(store, old) == {"a": 3, "b": 3, "c": 1}


def test_a_stale_copy_of_a_list_undoes_nothing(store: JsonStore, old: Editor) -> None:
    copy = old.load(EVENTS)
    view = store.legacy(EVENTS)
    view.insert(0, {**copy[0], "id": 6})
    records = store.collection(BlockchainEvent)
    records.delete(next(e.id for e in records.scan() if e.legacy_id == "2"))
    store.checkpoint()

    old.save(EVENTS, [{**copy[0], "id": 7}, *copy])
    store.checkpoint()
    store.checkpoint()

    found = [item["id"] for item in old.load(EVENTS)]
    assert sorted(found) == [1, 3, 4, 5, 6, 7]
    assert sorted(item["id"] for item in view) == [1, 3, 4, 5, 6, 7]
    assert [value["id"] for value in lost(store, EVENTS)] == [2]


def test_what_a_stale_copy_derives_is_not_written_either(
    store: JsonStore, old: Editor
) -> None:
    """Profiles derive from wallets, and new code may have deleted them meanwhile."""
    copy = old.load(WALLETS)
    one, two = list(copy)[:2]
    view = store.legacy(WALLETS)
    view.update({one: f"0x{91:040x}", two: f"0x{92:040x}"})
    store.checkpoint()
    before = list(store.collection("user_profiles").scan())

    old.save(WALLETS, copy)
    store.checkpoint()
    store.checkpoint()

    assert old.load(WALLETS) == view.snapshot()
    assert view[one] == f"0x{91:040x}"
    assert list(store.collection("user_profiles").scan()) == before
    assert len(lost(store, WALLETS)) == 2


# -- on purpose ---------------------------------------------------------------------------


def test_one_record_set_back_counts_and_what_it_was_is_kept(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, _ = prepared(store, old)
    for number, value in enumerate([2, 3, 2, 3], 1):
        view["a"] = value
        store.checkpoint()

        old.save(TIERS, {**old.load(TIERS), "a": 1})  # loaded just now

        assert both(store, old) == {"a": 1, "b": 1, "c": 1}
        assert {"a": value} in lost(store, TIERS)
        assert len(told(events)) == number
    assert "on purpose" in told(events)[0]


def test_who_shows_one_newer_value_has_loaded_the_file_since(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, _ = prepared(store, old)
    view.update({"a": 2, "b": 2, "c": 2})
    store.checkpoint()

    old.save(TIERS, {**old.load(TIERS), "a": 1, "b": 1, "d": 9})

    assert both(store, old) == {"a": 1, "b": 1, "c": 2, "d": 9}
    assert (told(events), lost(store, TIERS)) == ([], [])


def test_what_the_editor_wrote_himself_he_may_set_back(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    _, copy = prepared(store, old)
    old.save(TIERS, {**copy, "a": 2, "b": 2})
    store.checkpoint()

    old.save(TIERS, copy)

    assert both(store, old) == copy
    assert (told(events), lost(store, TIERS)) == ([], [])


def test_set_back_among_stale_records_it_counts_as_stale_too(
    store: JsonStore, old: Editor
) -> None:
    view, copy = prepared(store, old)
    old.save(TIERS, {**copy, "c": 2})
    store.checkpoint()
    view.update({"a": 2, "b": 2})
    store.checkpoint()

    old.save(TIERS, copy)

    assert both(store, old) == {"a": 2, "b": 2, "c": 2}


def test_a_value_from_before_an_edit_is_stale_after_the_next_commit(
    store: JsonStore, old: Editor
) -> None:
    view, copy = prepared(store, old)
    old.save(TIERS, {**copy, "a": 2})
    store.checkpoint()
    view["a"] = 3
    store.checkpoint()

    old.save(TIERS, {**copy, "b": 9})

    assert both(store, old) == {"a": 3, "b": 9, "c": 1}


def test_who_takes_out_everything_means_it_and_what_came_last_is_kept(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, _ = prepared(store, old)
    view["a"] = 2
    store.checkpoint()
    view.update({"b": 2, "new": 2})
    store.checkpoint()

    old.save(TIERS, {})

    assert both(store, old) == {}
    kept = {name: value for one in lost(store, TIERS) for name, value in one.items()}
    assert kept == {"a": 2, "b": 2, "new": 2}
    assert ["'new'" in message for message in told(events)] == [True]


def test_the_record_that_came_last_can_be_taken_out_and_is_kept(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, copy = prepared(store, old)
    view["new"] = 5
    store.checkpoint()

    old.save(TIERS, copy)

    assert both(store, old) == copy
    assert lost(store, TIERS) == [{"new": 5}]
    assert ["'new'" in message for message in told(events)] == [True]


def test_who_has_deleted_what_was_deleted_since_may_have_a_stale_copy(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view, copy = prepared(store, old)
    view["a"] = 2
    del view["b"]
    store.checkpoint()

    del copy["b"]
    old.save(TIERS, {**copy, "d": 9})

    assert both(store, old) == {"a": 1, "c": 1, "d": 9}
    assert lost(store, TIERS) == [{"a": 2}]
    assert ["'a'" in message for message in told(events)] == [True]


# -- an edit before the file was written again ----------------------------------------------


def test_a_merged_record_is_not_undone_by_an_edit_of_another_one(
    store: JsonStore, old: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file shows neither what was committed nor what has become of both."""
    from pend_storage.stores.json._legacy_sync.file_sync import FileSync

    view, _ = prepared(store, old)
    view["a"] = {"x": 0}
    store.checkpoint()
    copy = old.load(TIERS)
    view["a"] = {"x": 0, "ours": 2}
    with monkeypatch.context() as patch:
        patch.setattr(FileSync, "_write", lambda _: True)
        old.save(TIERS, {**copy, "a": {"x": 0, "theirs": 2}, "b": 2})
        store.checkpoint()
        assert view["a"] == {"x": 0, "ours": 2, "theirs": 2}
        old.save(TIERS, {**old.load(TIERS), "c": 9})
        store.checkpoint()
        assert view["a"] == {"x": 0, "ours": 2, "theirs": 2}

        text = old.load(TIERS)
        del text["a"]
        old.save(TIERS, text)
        store.checkpoint()

    assert both(store, old) == {"b": 2, "c": 9}
    assert lost(store, TIERS) == [{"a": {"x": 0, "ours": 2, "theirs": 2}}]


# -- what is remembered ---------------------------------------------------------------------


def test_what_is_remembered_is_bounded() -> None:
    shown = TextHistory()
    for number in range(30):
        added = {f"k{number}-{i}": ABSENT for i in range(100)}
        shown = shown.written({"often": str(number), **added})
    assert shown.version == 30
    assert len(shown.states) <= 2_000
    assert [state[0] for state in shown.states].count("often") == 8
    assert shown.floor > 0
    assert min(state.until for state in shown.states) >= shown.floor
    many = {str(number): ABSENT for number in range(1_001)}
    assert shown.written(many) == TextHistory(31, 31)
    edited = shown.adopted({"often": "x", "k": "x"}, ["often", "k"], {})
    assert edited.edited == {"often", "k"}
    assert edited.written({"k": "y"}).edited == {"often"}


def test_before_that_nothing_is_recognised() -> None:
    shown = TextHistory(3, 2, TextHistory().written({"a": "1", "b": "1"}).states)
    said = {"a": EditedText("1", is_change=True), "b": EditedText("1", is_change=True)}
    assert older_copy(shown, said) is None
    found = older_copy(TextHistory(3, 0, shown.states), said)
    assert found is not None
    assert found.stale == {"a", "b"}


def test_the_version_by_which_most_is_stale_is_taken() -> None:
    shown = (
        TextHistory()
        .written({"a": "1"})
        .written({"a": "2", "b": "1"})
        .written({"c": "1"})
    )
    said = {name: EditedText("1", is_change=True) for name in "abc"}
    found = older_copy(shown, said)
    assert found is not None
    assert (found.version, set(found.stale)) == (0, {"a", "b", "c"})
    assert older_copy(shown, {**said, "c": EditedText("2", is_change=False)}) is None


def test_texts_are_known_however_they_are_laid_out() -> None:
    texts = [b'"k": {"a": 1, "b": [1, 2]}', b'"k":{"b":[1,2],\n "a":1}']
    assert len({digest_of_text(text) for text in texts}) == 1
    assert digest_of_text(b'"l": 1') != digest_of_text(b'"k": 1')
    assert digest_of_text(b'{"a": 1}') == digest_of_text(b'{ "a":1 }')
    assert digest_of_text(b"rubbish") == digest_of_text(b" " * (2 << 20)) == UNCLEAR
