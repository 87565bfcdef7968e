"""Adoption: files that another program has changed become rows of a store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.legacy import RecordLayout
from pend_storage.pend import (
    LAYOUTS,
    SCHEMA,
    BlockchainEvent,
    KycApplication,
    User,
    UserProfile,
)
from pend_storage.pend._identity import user_id_of
from pend_storage.records import Delete, Put, QuarantinedRecord
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.stores.memory import MemoryStore
from pend_storage.validation._exact_json_compare import unequal

LAYOUT = {layout.file: layout for layout in LAYOUTS}
WALLETS = LAYOUT["wallet-db.json"]
KYC = LAYOUT["uploads/kyc/metadata.json"]
EVENTS = LAYOUT["explorer-data/transactions-log.json"]
ASSETS = LAYOUT["admin-opportunities.json"]
DIRECTORY = LAYOUT["explorer-data/wallets-directory.json"]
HASHES = ["0x" + digit * 64 for digit in "abcdef"]
ADDRESSES = ["0x" + digit * 40 for digit in "abcdef"]
TIME = "2025-06-19T07:58:56.380Z"


def held(store: MemoryStore, layout: RecordLayout) -> list[Any]:
    """Rows of a file in a store, in the file's order."""
    rows = [
        row
        for name in (layout.collection, QUARANTINE)
        for row in store.scan(name)
        if layout.owns(row.record)
    ]
    rows.sort(key=lambda row: layout.order(row.record, row.version))
    return [row.record for row in rows]


def adopt(store: MemoryStore, layout: RecordLayout, raw: bytes) -> list[Put | Delete]:
    def find(collection: str, key: str) -> Any:
        row = store.read(collection, (key,)).get(key)
        return None if row is None else row.record

    parsed = layout.parse(SCHEMA, raw)
    operations = list(layout.adopt(SCHEMA, parsed, held(store, layout), find))
    header = SCHEMA.put(LEGACY_FILES, parsed.header)
    store.commit(SCHEMA.batch([*operations, header]))
    return operations


def text(store: MemoryStore, layout: RecordLayout) -> bytes:
    row = store.read(LEGACY_FILES, (layout.file,)).get(layout.file)
    header = layout.missing() if row is None else row.record
    texts = (layout.render_one(header, record) for record in held(store, layout))
    return b"".join(layout.assemble(header, texts))


def printed(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


def event(number: int, **members: Any) -> dict[str, Any]:
    return {"id": number, "type": "egp_minted", "timestamp": TIME, **members}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(SCHEMA)


def test_a_file_that_did_not_change_changes_nothing(store: MemoryStore) -> None:
    raw = printed([event(2), event(1), "nonsense", event(1)])
    adopt(store, EVENTS, raw)

    assert adopt(store, EVENTS, raw) == []
    assert text(store, EVENTS) == raw


def test_a_new_record_at_the_front_touches_no_other(store: MemoryStore) -> None:
    log = [event(2), None, event(1)]
    adopt(store, EVENTS, printed(log))

    operations = adopt(store, EVENTS, printed([event(3), *log]))

    assert [o.record.legacy_id for o in operations if isinstance(o, Put)] == ["3"]
    assert len(operations) == 1
    assert text(store, EVENTS) == printed([event(3), *log])


def test_what_only_new_code_knows_survives_an_edit_of_the_file(
    store: MemoryStore,
) -> None:
    adopt(store, WALLETS, printed({HASHES[0]: ADDRESSES[0], HASHES[1]: ADDRESSES[1]}))
    users = store.collection(User)
    user = users.get_by("phone_hash", HASHES[0])
    assert user is not None
    users.put(replace(user, tier=3, metadata={"a": 1}, extra={"b": 2}))

    adopt(store, WALLETS, printed({HASHES[0]: ADDRESSES[2], HASHES[1]: ADDRESSES[1]}))

    changed = users.get(user.id)
    assert changed is not None
    assert changed.blockchain_address == ADDRESSES[2]
    assert (changed.tier, changed.metadata, changed.extra) == (3, {"a": 1}, {"b": 2})


def test_a_record_of_new_code_keeps_its_key_after_the_file_showed_it(
    store: MemoryStore,
) -> None:
    made = User(phone_hash=HASHES[0], blockchain_address=ADDRESSES[0], tier=2)
    seen = BlockchainEvent(event_type="pin_set", processed=True)
    store.collection(User).put(made)
    store.collection(BlockchainEvent).put(seen)
    wallets = json.loads(text(store, WALLETS)) | {HASHES[1]: ADDRESSES[1]}
    log = [event(9), *json.loads(text(store, EVENTS))]

    adopt(store, WALLETS, printed(wallets))
    adopt(store, EVENTS, printed(log))

    kept = store.collection(User).get(made.id)
    assert kept is not None
    assert kept.tier == 2
    assert [e.id for e in store.collection(BlockchainEvent).scan() if e.processed] == [
        seen.id
    ]
    assert text(store, WALLETS) == printed(wallets)
    assert text(store, EVENTS) == printed(log)


def test_a_record_that_left_the_file_is_deleted(store: MemoryStore) -> None:
    adopt(store, EVENTS, printed([event(3), event(2), 7, event(1)]))

    operations = adopt(store, EVENTS, printed([event(3), event(1)]))

    assert sorted(o.collection for o in operations) == ["blockchain_events", QUARANTINE]
    assert all(isinstance(o, Delete) for o in operations)
    assert text(store, EVENTS) == printed([event(3), event(1)])


def test_a_broken_file_deletes_nothing_and_a_mended_one_ends_the_quarantine(
    store: MemoryStore,
) -> None:
    raw = printed([event(2), event(1)])
    adopt(store, EVENTS, raw)

    broken = adopt(store, EVENTS, raw[:-40])
    again = adopt(store, EVENTS, raw[:-40])
    shown = text(store, EVENTS)
    mended = adopt(store, EVENTS, raw)

    assert [type(o.record) for o in broken if isinstance(o, Put)] == [QuarantinedRecord]
    assert again == []
    assert shown == raw[:-40]
    assert [(type(o), o.collection) for o in mended] == [(Delete, QUARANTINE)]
    assert text(store, EVENTS) == raw


def test_an_old_content_that_comes_again_does_not_take_the_place_of_the_new(
    store: MemoryStore,
) -> None:
    adopt(store, EVENTS, printed([event(1)]))
    events = store.collection(BlockchainEvent)
    (old,) = events.scan()
    events.put(replace(old, status="confirmed"))
    shown = json.loads(text(store, EVENTS))

    adopt(store, EVENTS, printed([event(1), *shown]))

    assert text(store, EVENTS) == printed([event(1), event(1, status="confirmed")])
    kept = events.get(old.id)
    assert kept is not None
    assert kept.status == "confirmed"


def test_an_asset_changed_in_the_file_is_the_same_asset(store: MemoryStore) -> None:
    before = {"id": "gold", "title": "Gold", "status": "active"}
    adopt(store, ASSETS, printed({"opportunities": [before]}))
    (asset,) = store.collection("assets").scan()

    adopt(store, ASSETS, printed({"opportunities": [{**before, "status": "paused"}]}))

    (changed,) = store.collection("assets").scan()
    assert (changed.id, changed.status) == (asset.id, "paused")


def test_a_reference_that_leads_nowhere_is_null_until_it_leads_somewhere(
    store: MemoryStore,
) -> None:
    application = {"verificationStatus": "verified", "lastUpdated": TIME}
    raw = printed({HASHES[0]: application})
    adopt(store, KYC, raw)
    kyc = store.collection(KycApplication)
    (before,) = kyc.scan()

    adopt(store, WALLETS, printed({HASHES[0]: ADDRESSES[0]}))
    adopt(store, KYC, raw)

    (after,) = kyc.scan()
    assert (before.user_id, after.user_id) == (None, user_id_of(HASHES[0]))
    assert text(store, KYC) == raw


def test_profiles_unite_what_several_files_tell_and_new_code_has_written(
    store: MemoryStore,
) -> None:
    adopt(store, WALLETS, printed({HASHES[0]: ADDRESSES[0]}))
    profiles = store.collection(UserProfile)
    profile = profiles.get(user_id_of(HASHES[0]))
    assert profile is not None
    profiles.put(replace(profile, login_count=4, balances={"USD": "1"}))

    entry = {
        "identityHash": HASHES[0],
        "maskedPhone": "+20***7890",
        "egpBalance": "5.0",
    }
    adopt(store, DIRECTORY, printed([entry, {**entry, "identityHash": HASHES[1]}]))
    application = {"verificationStatus": "verified", "lastUpdated": TIME}
    adopt(store, KYC, printed({HASHES[0]: application}))

    (united,) = profiles.scan()
    assert united.login_count == 4
    assert united.phone_number_masked == "+20***7890"
    assert united.balances == {"USD": "1", "EGP": "5.0"}
    assert united.kyc_status == "verified"


def test_a_changed_entry_renews_what_was_derived_from_it(store: MemoryStore) -> None:
    adopt(store, WALLETS, printed({HASHES[0]: ADDRESSES[0]}))
    entry = {"verificationStatus": "pending_review", "lastUpdated": TIME}
    adopt(store, KYC, printed({HASHES[0]: entry}))

    adopt(store, KYC, printed({HASHES[0]: {**entry, "verificationStatus": "rejected"}}))

    (profile,) = store.collection(UserProfile).scan()
    assert profile.kyc_status == "rejected"


def test_a_user_without_wallet_entry_gets_no_profile(store: MemoryStore) -> None:
    adopt(store, DIRECTORY, printed([{"identityHash": HASHES[0]}]))

    assert list(store.collection(UserProfile).scan()) == []


def test_quarantined_records_say_when_they_were_first_seen(store: MemoryStore) -> None:
    raw = printed([None])
    adopt(store, EVENTS, raw)
    (first,) = store.collection(QuarantinedRecord).scan()

    adopt(store, EVENTS, printed([event(1), None]))

    (again,) = store.collection(QuarantinedRecord).scan()
    assert first.seen_at.year > 2000
    assert again == first


items = st.sampled_from(
    [
        *(event(n) for n in range(3)),
        event(1, walletAddress="0x" + "AB" * 20, amount="100.0"),
        event(1, amount=0.25, status=None),
        *(None, "nonsense", {"type": "no time"}),
    ]
)


def values(records: Iterable[Any]) -> Counter[str]:
    """Count each value; of records the part that the file shows."""
    shown = (
        EVENTS.mapping.write(r) if isinstance(r, BlockchainEvent) else r
        for r in records
    )
    return Counter(json.dumps(value, sort_keys=True) for value in shown)


@given(
    before=st.lists(items, max_size=6),
    marks=st.lists(st.integers(0, 5), max_size=3),
    data=st.data(),
)
def test_after_any_edit_the_store_shows_the_edited_file_and_keeps_what_it_can(
    before: list[Any], marks: list[int], data: st.DataObject
) -> None:
    store = MemoryStore(SCHEMA)
    adopt(store, EVENTS, printed(before))
    events = store.collection(BlockchainEvent)
    placed = [r for r in held(store, EVENTS) if isinstance(r, BlockchainEvent)]
    for index, record in enumerate(placed):
        if index in marks:  # one half changes what the file shows, one half does not
            status = "marked" if index % 2 else record.status
            events.put(replace(record, processed=True, status=status))
    shown = json.loads(text(store, EVENTS))
    processed = values(r for r in events.scan() if r.processed)
    others = values(r for r in events.scan() if not r.processed)
    edited = data.draw(st.permutations(shown))[: data.draw(st.integers(0, 6))]
    for item in data.draw(st.lists(items, max_size=3)):
        edited.insert(data.draw(st.integers(0, len(edited))), item)

    adopt(store, EVENTS, printed(edited))

    assert list(unequal(text(store, EVENTS), printed(edited))) == []
    assert adopt(store, EVENTS, printed(edited)) == []
    now = values(r for r in events.scan() if r.processed)
    for value, count in processed.items():
        # Of equal records no one can say which of them is gone.
        expected = min(count, values(edited)[value] - others[value])
        assert now[value] >= expected


addresses = st.sampled_from(ADDRESSES)
names = st.sampled_from([*HASHES, HASHES[0].upper(), HASHES[1][2:], "absent"])


@given(st.lists(st.dictionaries(names, addresses, max_size=5), max_size=4))
def test_any_sequence_of_wallet_files_ends_with_the_last_one(
    files: list[dict[str, str]],
) -> None:
    store = MemoryStore(SCHEMA)

    for file in files:
        for profile in list(store.collection(UserProfile).scan()):
            store.collection(UserProfile).delete(profile.user_id)
        adopt(store, WALLETS, printed(file))
        assert list(unequal(text(store, WALLETS), printed(file))) == []


def test_a_text_that_waits_for_another_reason_says_so(store: MemoryStore) -> None:
    other = HASHES[0].upper().replace("X", "x")
    adopt(store, WALLETS, printed({HASHES[0]: ADDRESSES[0], other: ADDRESSES[1]}))
    (first,) = store.collection(QuarantinedRecord).scan()

    parsed = WALLETS.parse(
        SCHEMA, printed({HASHES[1]: ADDRESSES[1], other: ADDRESSES[1]})
    )
    present = held(store, WALLETS)
    known = {record.id: record for record in present}
    operations = WALLETS.adopt(SCHEMA, parsed, present, lambda _, key: known.get(key))

    (second,) = (
        o.record
        for o in operations
        if isinstance(o, Put) and o.collection == QUARANTINE
    )
    assert (first.code, second.code) == ("key-taken", "value-taken")
    assert (first.id, first.seen_at) == (second.id, second.seen_at)
