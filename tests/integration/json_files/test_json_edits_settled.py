"""An edit of a legacy file and a commit to the same member: what becomes of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pend_storage.cli._quarantine import _chosen
from pend_storage.events import Event
from pend_storage.operations.quarantine import accept, list_quarantined, retry
from pend_storage.pend import BlockchainEvent, User
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.records import BESIDE, EDITED, QuarantinedRecord
from pend_storage.schema import Schema, collection
from pend_storage.stores.json import JsonStore
from tests.ages import age
from tests.integration.json_files.conftest import Editor

TIERS = "admin-pool-tiers.json"
WALLETS = "wallet-db.json"
EVENTS = "explorer-data/transactions-log.json"
LOGS = "admin-logs.json"
GONE = object()

SHOWN = {"k": {"x": 1, "y": 1, "z": {"p": 1, "q": 1}}}
OURS = {"x": 2, "y": 1, "z": {"p": 2, "q": 1}}
THEIRS = {"x": 3, "y": 3, "z": {"p": 1, "q": 3}}
BOTH = {"x": 3, "y": 3, "z": {"p": 2, "q": 3}}


def lost(store: JsonStore, file: str) -> list[Any]:
    """The values that lost, as their file would show them."""
    found = list_quarantined(store, file=file, status="waiting")
    assert {record.code for record in found} <= {EDITED}
    values = []
    for record in found:
        try:
            values.append(json.loads(b"{%b}" % record.raw))
        except ValueError:
            values += json.loads(b"[%b]" % record.raw)
    return values


def met(events: list[Event]) -> list[Event]:
    return [event for event in events if event.name == "outside-edit-met-commit"]


def commit_all(view: Any, steps: list[Any]) -> None:
    for value in steps:
        if value is GONE:
            del view["k"]
        else:
            view["k"] = value


@pytest.mark.parametrize(
    ("edited", "steps", "stays", "loses"),
    [
        pytest.param(THEIRS, [OURS], THEIRS, OURS, id="added-added"),
        pytest.param(THEIRS, [SHOWN["k"], OURS], THEIRS, OURS, id="added-changed"),
        pytest.param(THEIRS, [OURS, GONE], THEIRS, None, id="added-deleted"),
        pytest.param(THEIRS, [GONE, OURS], BOTH, OURS, id="changed-added"),
        pytest.param(THEIRS, [OURS], BOTH, OURS, id="changed-changed"),
        pytest.param(THEIRS, [GONE], THEIRS, None, id="changed-deleted"),
        pytest.param(GONE, [GONE, OURS], GONE, OURS, id="deleted-added"),
        pytest.param(GONE, [OURS], GONE, OURS, id="deleted-changed"),
        pytest.param(GONE, [GONE], GONE, None, id="deleted-deleted"),
    ],
)
def test_each_of_the_nine_combinations_has_one_answer(  # noqa: PLR0917 - a table
    request: pytest.FixtureRequest,
    edited: Any,
    steps: list[Any],
    stays: Any,
    loses: Any,
    open_store: Callable[..., JsonStore],
    old: Editor,
    events: list[Event],
) -> None:
    edit, commit = request.node.callspec.id.split("-")
    store = open_store()
    view = store.legacy(TIERS)
    view.update({"other": 1} if edit == "added" else {"other": 1, **SHOWN})
    store.checkpoint()
    text = old.load(TIERS)
    commit_all(view, steps)

    old.save(TIERS, {n: v for n, v in {**text, "k": edited}.items() if v is not GONE})
    store.checkpoint()
    store.checkpoint()

    after = {"other": 1} if stays is GONE else {"other": 1, "k": stays}
    assert view.snapshot() == old.load(TIERS) == after
    assert lost(store, TIERS) == ([] if loses is None else [{"k": loses}])
    told = met(events)
    assert len(told) == ((edit, commit) not in {("added", "deleted"), ("deleted",) * 2})
    assert all("'k'" in event.message and event.level >= 30 for event in told)
    store.close()
    assert open_store().legacy(TIERS).snapshot() == after


def test_what_each_side_has_changed_alone_loses_nothing(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    view = store.legacy(TIERS)
    view.update(SHOWN)
    store.checkpoint()
    view["k"] = {**SHOWN["k"], "x": 2}

    old.save(TIERS, {"k": {**SHOWN["k"], "y": 3}})
    store.checkpoint()

    assert view["k"] == old.load(TIERS)["k"] == {**SHOWN["k"], "x": 2, "y": 3}
    assert lost(store, TIERS) == []
    assert ["both changes are kept" in event.message for event in met(events)] == [True]


def test_fields_that_the_file_does_not_show_stay_where_both_have_added_a_record(
    store: JsonStore, old: Editor
) -> None:
    phone = f"0x{50:064x}"
    theirs = {**old.load(WALLETS), phone: f"0x{51:040x}"}
    store.legacy(WALLETS)[phone] = f"0x{50:040x}"
    users = store.collection(User)
    mine = users.get_by("phone_hash", phone)
    assert mine is not None
    users.put(replace(mine, tier=4))

    old.save(WALLETS, theirs)
    store.checkpoint()

    found = users.get(mine.id)
    assert found is not None
    assert (found.tier, found.blockchain_address) == (4, f"0x{51:040x}")
    assert lost(store, WALLETS) == [{phone: f"0x{50:040x}"}]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_record_of_a_list_is_named_by_its_id(
    deleted: bool, store: JsonStore, old: Editor, events: list[Event]
) -> None:
    records = store.collection(BlockchainEvent)
    mine = next(e for e in records.scan() if e.legacy_id == "4")
    records.put(replace(mine, amount=records_amount(mine) + 1))

    items = old.load(EVENTS)
    if deleted:
        items = [item for item in items if item["id"] != 4]
    else:
        items = [{**i, "amount": "7"} if i["id"] == 4 else i for i in items]
    old.save(EVENTS, items)
    store.checkpoint()

    assert [item["id"] for item in old.load(EVENTS)] == [i["id"] for i in items]
    assert [(v["id"], v["amount"]) for v in lost(store, EVENTS)] == [(4, "251")]
    assert ["id 4" in event.message for event in met(events)] == [True]


def records_amount(event: BlockchainEvent) -> Any:
    assert event.amount is not None
    return event.amount


def test_of_members_beside_the_records_the_losing_ones_are_kept(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    log = {"id": "1", "action": "look", "timestamp": "2026-01-01T00:00:00.000Z"}
    old.save(LOGS, {"logs": [log], "both": 1, "gone": 1, "ours": 1, "theirs": 1})
    store.checkpoint()
    text = old.load(LOGS)
    store.legacy(LOGS).update(both=2, gone=2, ours=2)

    del text["gone"]
    old.save(LOGS, {**text, "both": 3, "theirs": 3})
    store.checkpoint()
    store.checkpoint()

    assert old.load(LOGS) == {"logs": [log], "both": 3, "ours": 2, "theirs": 3}
    assert sorted(map(str, lost(store, LOGS))) == ["{'both': 2}", "{'gone': 2}"]
    assert ["'both', 'gone'" in event.message for event in met(events)] == [True]
    found = next(r for r in list_quarantined(store, file=LOGS) if r.place == "both")
    assert found.position == BESIDE
    assert retry(store, found).placed
    store.checkpoint()
    assert old.load(LOGS)["both"] == 2


# -- what the store refuses --------------------------------------------------------------


def test_a_refused_change_leaves_the_value_of_the_store_and_is_kept_apart(
    store: JsonStore, old: Editor, events: list[Event]
) -> None:
    wallets = old.load(WALLETS)
    one, (phone, address) = next(iter(wallets)), (f"0x{8:064x}", f"0x{8:040x}")
    store.legacy(WALLETS)[phone] = address

    old.save(WALLETS, {**wallets, one: address})
    store.checkpoint()
    store.checkpoint()

    wallets[phone] = address
    assert old.load(WALLETS) == store.legacy(WALLETS).snapshot() == wallets
    assert lost(store, WALLETS) == [{one: address}]
    (told,) = [event for event in events if event.name == "outside-edit-refused"]
    assert repr(one[:6]) in told.message  # a phone hash is personal


def test_of_two_members_with_one_address_the_second_waits_in_its_place(
    store: JsonStore, old: Editor
) -> None:
    wallets = old.load(WALLETS)
    one, two = list(wallets)[:2]

    edited = {**wallets, one: wallets[two]}
    old.save(WALLETS, edited)
    store.checkpoint()
    store.checkpoint()

    text = (old.directory / WALLETS).read_text()
    assert old.load(WALLETS) == store.legacy(WALLETS).snapshot() == edited
    assert (text.count(one), text.count(two)) == (1, 1)
    (waiting,) = list_quarantined(store, file=WALLETS, status="waiting")
    assert (waiting.place, waiting.code) == (two, "value-taken")


def test_an_added_member_that_the_store_has_under_another_key_is_kept_apart(
    store: JsonStore, old: Editor
) -> None:
    phone = f"0x{50:064x}"
    mine = User(
        id=str(UUID(int=5)), phone_hash=phone, blockchain_address=f"0x{50:040x}"
    )
    store.collection(User).put(mine)

    old.save(WALLETS, {**old.load(WALLETS), phone: f"0x{51:040x}"})
    store.checkpoint()
    store.checkpoint()

    assert old.load(WALLETS)[phone] == f"0x{50:040x}"
    assert (old.directory / WALLETS).read_text().count(phone) == 1
    assert lost(store, WALLETS) == [{phone: f"0x{51:040x}"}]


# -- afterwards ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    id: str
    n: int = 0


def settled(store: JsonStore, old: Editor, *, deleted: bool) -> QuarantinedRecord:
    """A value that lost: ours."""
    view = store.legacy(TIERS)
    view.update({"other": 1, **SHOWN})
    store.checkpoint()
    view["k"] = "ours"
    old.save(TIERS, {"other": 1} if deleted else {"other": 1, "k": "theirs"})
    store.checkpoint()
    (found,) = list_quarantined(store, file=TIERS)
    return found


@pytest.mark.parametrize("deleted", [False, True])
def test_a_value_that_lost_can_be_brought_back(
    deleted: bool, store: JsonStore, old: Editor
) -> None:
    found = settled(store, old, deleted=deleted)

    assert retry(store, found).placed
    store.checkpoint()

    assert old.load(TIERS) == store.legacy(TIERS).snapshot()
    assert old.load(TIERS) == {"other": 1, "k": "ours"}
    assert list_quarantined(store) == []


def test_it_can_be_corrected_or_accepted(store: JsonStore, old: Editor) -> None:
    found = settled(store, old, deleted=False)
    assert not retry(store, found, text=b"rubbish").placed

    assert accept(store, found, "seen").status == "accepted"
    store.checkpoint()
    assert old.load(TIERS) == {"other": 1, "k": "theirs"}
    assert list_quarantined(store, status="waiting") == []
    accepted = store.collection(QuarantinedRecord).get(found.id)
    assert accepted is not None
    assert retry(store, accepted, text=b'"k": "corrected"').placed
    assert store.legacy(TIERS).snapshot() == {"other": 1, "k": "corrected"}


def test_all_that_wait_are_tried_again_but_those(store: JsonStore, old: Editor) -> None:
    found = settled(store, old, deleted=False)

    assert _chosen(store, (), None, everything=True) == []
    assert _chosen(store, (), TIERS, everything=False) == []
    assert _chosen(store, (found.id[:8],), None, everything=False) == [found]


def test_as_secondary_what_was_added_or_set_beside_the_records_is_kept(
    store: JsonStore, old: Editor
) -> None:
    old.save(LOGS, {"logs": [], "version": 1})
    store.checkpoint()
    before = store.meta(ROLE_META)
    role = RoleState(Role.SECONDARY, 1).to_meta()
    assert store.compare_and_set_meta(ROLE_META, before, role)
    wallets, phone = old.load(WALLETS), f"0x{50:064x}"

    old.save(LOGS, {"logs": [], "version": 2})
    old.save(WALLETS, {**wallets, phone: f"0x{50:040x}"})
    store.checkpoint()
    store.checkpoint()

    assert old.load(LOGS) == {"logs": [], "version": 1}
    assert old.load(WALLETS) == wallets
    assert lost(store, LOGS) == [{"version": 2}]
    assert lost(store, WALLETS) == [{phone: f"0x{50:040x}"}]


def test_the_same_holds_for_a_collection_without_a_layout(tmp_path: Path) -> None:
    schema = Schema([collection("notes", Note)])
    with JsonStore(schema, tmp_path / "own", checkpoint_interval=None) as own:
        notes, file = own.collection(Note), tmp_path / "own/notes.json"
        notes.put_many([Note("a"), Note("b")])
        own.checkpoint()
        text = json.loads(file.read_text())
        notes.put_many([Note("a", 1), Note("b", 1), Note("c", 1)])
        del text["a"]
        file.write_text(json.dumps({**text, "c": {"id": "c", "n": 2}}))
        age(file)
        own.checkpoint()

        assert list(notes.scan()) == [Note("b", 1), Note("c", 2)]
        found = list_quarantined(own, file="notes.json")
        assert [record.place for record in found] == ["a", "c"]
        assert all(retry(own, record).placed for record in found)
        own.checkpoint()
        assert list(notes.scan()) == [Note("a", 1), Note("b", 1), Note("c", 1)]
        assert list(json.loads(file.read_text())) == ["a", "b", "c"]
