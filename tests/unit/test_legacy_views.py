"""Legacy files as live mappings and sequences over a store."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.errors import InvalidRecord
from pend_storage.legacy import RecordLayout
from pend_storage.pend import (
    LAYOUTS,
    SCHEMA,
    Asset,
    BlockchainEvent,
    Document,
    KycApplication,
    User,
    UserProfile,
)
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.stores.memory import MemoryStore

LAYOUT = {layout.file: layout for layout in LAYOUTS}
WALLETS = "wallet-db.json"
EVENTS = "explorer-data/transactions-log.json"
LOGS = "admin-logs.json"
KYC = "uploads/kyc/metadata.json"
ASSETS = "admin-opportunities.json"
TIERS = "admin-pool-tiers.json"
HASHES = ["0x" + digit * 64 for digit in "abcdef"]
ADDRESSES = ["0x" + digit * 40 for digit in "abcdef"]
TIME = "2025-06-19T07:58:56.380Z"


def event(number: int) -> dict[str, Any]:
    return {"id": number, "type": "egp_minted", "timestamp": TIME}


def log(number: int) -> dict[str, Any]:
    return {"action": f"A{number}", "timestamp": TIME, "data": {"id": number}}


def fill(store: MemoryStore, file: str, raw: bytes | object) -> None:
    layout = LAYOUT[file]
    text = raw if isinstance(raw, bytes) else json.dumps(raw, indent=2).encode()
    parsed = layout.parse(SCHEMA, text)

    def find(collection: str, key: str) -> Any:
        row = store.read(collection, (key,)).get(key)
        return None if row is None else row.record

    operations = layout.adopt(SCHEMA, parsed, (), find)
    header = SCHEMA.put(LEGACY_FILES, parsed.header)
    store.commit(SCHEMA.batch([*operations, header]))


def text(store: MemoryStore, file: str) -> bytes:
    """The file as the store would write it now."""
    layout: RecordLayout = LAYOUT[file]
    rows = [
        row
        for name in (layout.collection, QUARANTINE)
        for row in store.scan(name)
        if layout.owns(row.record)
    ]
    rows.sort(key=lambda row: layout.order(row.record, row.version))
    found = store.read(LEGACY_FILES, (file,)).get(file)
    header = layout.missing() if found is None else found.record
    texts = (layout.render_one(header, row.record) for row in rows)
    return b"".join(layout.assemble(header, texts))


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore(SCHEMA)
    made.layouts = LAYOUTS
    return made


# -- maps -------------------------------------------------------------------------------


def test_a_written_wallet_is_a_user_with_a_profile_and_reads_back(
    store: MemoryStore,
) -> None:
    wallets = store.legacy(WALLETS)

    wallets[HASHES[0]] = "0x" + "Ab" * 20

    user = store.collection(User).get_by("phone_hash", HASHES[0])
    assert user is not None
    assert user.blockchain_address == "0x" + "ab" * 20
    assert store.collection(UserProfile).get(user.id) is not None
    assert wallets[HASHES[0]] == "0x" + "Ab" * 20
    assert dict(wallets) == wallets.snapshot() == json.loads(text(store, WALLETS))


def test_a_map_behaves_like_a_dictionary(store: MemoryStore) -> None:
    fill(store, TIERS, {"gold": 2, "olives": 1})
    tiers = store.legacy(TIERS)

    tiers["olives"] = 3
    tiers.setdefault("solar", 4)
    tiers.update({"gold": 0})
    removed = tiers.pop("solar")

    assert (len(tiers), list(tiers), "gold" in tiers) == (2, ["gold", "olives"], True)
    assert (removed, tiers.get("solar"), tiers.get("solar", 7)) == (4, None, 7)
    assert tiers.snapshot() == {"gold": 0, "olives": 3}
    with pytest.raises(KeyError):
        tiers["solar"]
    with pytest.raises(KeyError):
        del tiers["solar"]


def test_what_only_new_code_knows_survives_a_legacy_write(store: MemoryStore) -> None:
    users = store.collection(User)
    users.put(User(phone_hash=HASHES[0], blockchain_address=ADDRESSES[0], tier=4))

    store.legacy(WALLETS)[HASHES[0]] = ADDRESSES[1]

    (user,) = users.scan()
    assert (user.blockchain_address, user.tier) == (ADDRESSES[1], 4)


def test_a_record_of_new_code_is_there_for_old_code(store: MemoryStore) -> None:
    store.collection(User).put(
        User(phone_hash=HASHES[0], blockchain_address=ADDRESSES[0])
    )
    store.collection(Document).put(Document(file=TIERS, key="gold", body=2))

    assert store.legacy(WALLETS).snapshot() == {HASHES[0]: ADDRESSES[0]}
    assert store.legacy(TIERS)["gold"] == 2


def test_another_spelling_of_a_name_is_another_member_which_waits(
    store: MemoryStore,
) -> None:
    fill(store, WALLETS, {HASHES[0][2:]: ADDRESSES[0]})
    wallets = store.legacy(WALLETS)

    assert HASHES[0] not in wallets
    with pytest.raises(InvalidRecord, match="has its key"):
        store.legacy(WALLETS, strict=True)[HASHES[0]] = ADDRESSES[1]
    wallets[HASHES[0]] = ADDRESSES[1]
    assert wallets.snapshot() == {
        HASHES[0][2:]: ADDRESSES[0],
        HASHES[0]: ADDRESSES[1],
    }
    del wallets[HASHES[0][2:]]
    assert wallets.snapshot() == {HASHES[0]: ADDRESSES[1]}
    (user,) = store.collection(User).scan()
    assert user.blockchain_address == ADDRESSES[1]
    assert list(store.scan(QUARANTINE)) == []


UNPLACEABLE: list[tuple[str, object]] = [
    ("absent", ADDRESSES[0]),
    (HASHES[0], "not an address"),
    (HASHES[0], None),
    (HASHES[0], {"address": ADDRESSES[0], "n": "\x00"}),
    ("\ud800", ADDRESSES[0]),
]
NO_JSON: list[tuple[str, object]] = [
    (HASHES[0], {"address": ADDRESSES[0], "n": float("nan")}),
    (HASHES[0], {"address": ADDRESSES[0], "n": object()}),
]


@pytest.mark.parametrize(("name", "value"), UNPLACEABLE)
def test_what_cannot_be_placed_stands_in_the_file_and_waits(
    store: MemoryStore, name: str, value: object
) -> None:
    wallets = store.legacy(WALLETS)

    wallets[name] = value

    assert wallets.snapshot() == json.loads(text(store, WALLETS)) == {name: value}
    assert store.collection(User).count() == 0
    (waiting,) = store.collection(QUARANTINE).scan()
    assert waiting.status == "waiting"
    del wallets[name]
    assert (wallets.snapshot(), list(store.scan(QUARANTINE))) == ({}, [])


@pytest.mark.parametrize(("name", "value"), UNPLACEABLE + NO_JSON)
def test_a_strict_view_refuses_it_and_writes_nothing(
    store: MemoryStore, name: str, value: object
) -> None:
    with pytest.raises(InvalidRecord):
        store.legacy(WALLETS, strict=True)[name] = value

    assert store.legacy(WALLETS).snapshot() == {}


@pytest.mark.parametrize(("name", "value"), NO_JSON)
def test_what_is_not_json_is_refused(
    store: MemoryStore, name: str, value: object
) -> None:
    with pytest.raises(InvalidRecord):
        store.legacy(WALLETS)[name] = value

    assert store.legacy(WALLETS).snapshot() == {}


def test_quarantined_members_are_seen_and_can_be_written_over(
    store: MemoryStore,
) -> None:
    raw = b'{"%b": "%b", "%b": {"n": NaN, "a\\u0000": 1}, "x": tru}' % (
        HASHES[0].encode(),
        ADDRESSES[0].encode(),
        HASHES[1].encode(),
    )
    fill(store, WALLETS, raw)
    wallets = store.legacy(WALLETS)

    assert list(wallets) == [HASHES[0], HASHES[1], "x"]
    assert wallets[HASHES[1]]["a\x00"] == 1
    assert wallets["x"] == "tru"
    assert wallets.pop("x") == "tru"
    wallets.update({HASHES[1]: ADDRESSES[1]})

    assert list(store.scan(QUARANTINE)) == []
    assert wallets.snapshot() == json.loads(text(store, WALLETS))
    assert list(wallets.items()) == [
        (HASHES[0], ADDRESSES[0]),
        (HASHES[1], ADDRESSES[1]),
    ]


def test_a_written_application_finds_its_user_and_tells_the_profile(
    store: MemoryStore,
) -> None:
    store.legacy(WALLETS)[HASHES[0]] = ADDRESSES[0]
    kyc = store.legacy(KYC)

    for name in HASHES[:2]:
        kyc[name] = {"verificationStatus": "verified", "lastUpdated": TIME}

    found = {a.phone_hash: a for a in store.collection(KycApplication).scan()}
    (profile,) = store.collection(UserProfile).scan()
    assert found[HASHES[0]].user_id == profile.user_id
    assert found[HASHES[1]].user_id is None
    assert profile.kyc_status == "verified"


def test_what_a_view_gives_is_written_through(store: MemoryStore) -> None:
    fill(store, TIERS, {"gold": {"tiers": [1]}})
    tiers = store.legacy(TIERS)

    value = tiers["gold"]
    value["tiers"].append(2)

    assert tiers["gold"] == value == {"tiers": [1, 2]}
    assert json.loads(text(store, TIERS)) == {"gold": {"tiers": [1, 2]}}


# -- lists ------------------------------------------------------------------------------


def test_the_log_grows_at_the_front(store: MemoryStore) -> None:
    fill(store, EVENTS, [event(2), event(1)])
    transactions = store.legacy(EVENTS)

    transactions.insert(0, event(3))
    transactions.insert(0, event(4))

    assert [item["id"] for item in transactions] == [4, 3, 2, 1]
    assert transactions[0] == event(4)
    assert transactions[:2] == [event(4), event(3)]
    assert text(store, EVENTS) == json.dumps(transactions.snapshot(), indent=2).encode()


def test_equal_entries_are_all_kept(store: MemoryStore) -> None:
    transactions = store.legacy(EVENTS)

    for _ in range(3):
        transactions.insert(0, event(1))

    assert transactions.snapshot() == [event(1)] * 3
    numbers = [e.occurrence for e in store.collection(BlockchainEvent).scan()]
    assert sorted(numbers) == [0, 1, 2]


def test_four_writers_at_once_lose_nothing(store: MemoryStore) -> None:
    transactions = store.legacy(EVENTS)

    def write(writer: int) -> None:
        for number in range(10):
            transactions.insert(
                0, event(number % 3 if writer % 2 else writer * 100 + number)
            )

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(transactions) == 40


def test_an_entry_changed_in_place_is_the_same_record(store: MemoryStore) -> None:
    fill(store, EVENTS, [event(2), event(1)])
    (newest,) = (
        e for e in store.collection(BlockchainEvent).scan() if e.legacy_id == "2"
    )
    transactions = store.legacy(EVENTS)

    transactions[0] = {**event(2), "status": "confirmed"}

    changed = store.collection(BlockchainEvent).get(newest.id)
    assert changed is not None
    assert changed.status == "confirmed"
    assert transactions.snapshot() == [{**event(2), "status": "confirmed"}, event(1)]


def test_quarantined_items_are_seen_and_can_be_written_over(
    store: MemoryStore,
) -> None:
    fill(store, EVENTS, [event(2), "nonsense", "more", event(1)])
    transactions = store.legacy(EVENTS)

    assert transactions[1] == "nonsense"
    transactions[1] = event(7)
    assert transactions.pop(2) == "more"

    assert transactions.snapshot() == [event(2), event(7), event(1)]
    assert list(store.scan(QUARANTINE)) == []


def test_an_item_that_becomes_nonsense_waits_in_its_place(store: MemoryStore) -> None:
    fill(store, EVENTS, [event(3), event(2), event(1)])
    transactions = store.legacy(EVENTS)

    transactions[1] = "nonsense"
    transactions.insert(0, "nonsense")
    transactions.append("nonsense")

    expected = ["nonsense", event(3), "nonsense", event(1), "nonsense"]
    assert transactions.snapshot() == json.loads(text(store, EVENTS)) == expected
    assert store.collection(BlockchainEvent).count() == 2


def test_any_part_of_a_list_can_be_replaced_at_once(store: MemoryStore) -> None:
    transactions = store.legacy(EVENTS)

    transactions[:] = [event(3), event(3), event(1)]
    before = [e.id for e in store.collection(BlockchainEvent).scan()]
    transactions[1:] = [event(9), event(1)]

    assert transactions.snapshot() == [event(3), event(9), event(1)]
    assert [e.id for e in store.collection(BlockchainEvent).scan()] == before


def test_an_asset_with_the_identity_of_another_waits(store: MemoryStore) -> None:
    assets = store.legacy(ASSETS)["opportunities"]
    gold, again = {"id": "gold", "title": "Gold"}, {"id": "gold", "title": "Again"}
    assets.append(gold)

    with pytest.raises(InvalidRecord, match="has its key"):
        store.legacy(ASSETS, strict=True)["opportunities"].append(again)
    assets.append(again)

    assert assets.snapshot() == [gold, again]
    assert [a.title for a in store.collection(Asset).scan()] == ["Gold"]
    del assets[0]
    assert assets.snapshot() == [again]
    assert [a.title for a in store.collection(Asset).scan()] == ["Again"]


steps = st.one_of(
    st.tuples(st.just("insert"), st.integers(-7, 7)),
    st.tuples(st.just("append"), st.just(0)),
    st.tuples(st.just("delete"), st.integers(-7, 7)),
    st.tuples(st.just("set"), st.integers(-7, 7)),
    st.tuples(st.just("slice"), st.integers(0, 4)),
)


@pytest.mark.parametrize("file", [EVENTS, LOGS, "server-logs.json"])
@given(start=st.integers(0, 4), script=st.lists(steps, max_size=8))
def test_a_list_does_what_a_list_does(
    file: str, start: int, script: list[tuple[str, int]]
) -> None:
    make = event if file == EVENTS else log
    model: list[Any] = [make(n % 2) for n in range(start)]
    layout = LAYOUT[file]
    store = MemoryStore(SCHEMA)
    store.layouts = LAYOUTS
    fill(store, file, {layout.wrapper: model} if layout.wrapper else model)
    opened = store.legacy(file)
    view = opened[layout.wrapper] if layout.wrapper else opened

    for number, (step, index) in enumerate(script, start=10):
        for target in (model, view):
            apply(target, step, index, make(number % 3))

    assert view.snapshot() == model
    assert [view[i] for i in range(-len(model), len(model))] == model * 2
    assert len(view) == len(model)


def apply(target: Any, step: str, index: int, value: Any) -> None:
    steps = {
        "insert": lambda: target.insert(index, value),
        "append": lambda: target.append(value),
        "delete": lambda: target.__delitem__(index),
        "set": lambda: target.__setitem__(index, value),
        "slice": lambda: target.__delitem__(slice(index, None)),
    }
    with contextlib.suppress(
        IndexError
    ):  # a file that does not raise it differs afterwards
        steps[step]()


# -- lists in an object -----------------------------------------------------------------


def test_a_wrapped_file_is_an_object_with_its_list_inside(store: MemoryStore) -> None:
    fill(store, LOGS, {"version": 1, "logs": [log(1)], "note": "x"})
    file = store.legacy(LOGS)

    file["logs"].append(log(2))
    file["version"] = 2
    file["more"] = [{"a": None}]
    del file["note"]

    expected = {"version": 2, "logs": [log(1), log(2)], "more": [{"a": None}]}
    assert list(file) == ["version", "logs", "more"]
    assert file.snapshot() == expected
    assert text(store, LOGS) == json.dumps(expected, indent=2).encode()
    with pytest.raises(KeyError):
        file["note"]


def test_the_list_of_a_wrapped_file_can_be_given_anew(store: MemoryStore) -> None:
    file = store.legacy(LOGS)

    file["logs"] = [log(1), log(1)]
    both = file.snapshot()
    del file["logs"]

    assert both == {"logs": [log(1), log(1)]}
    assert file.snapshot() == {"logs": []}


def test_a_bare_list_where_a_wrapped_one_is_usual_is_a_list(store: MemoryStore) -> None:
    fill(store, LOGS, [log(1)])

    opened = store.legacy(LOGS)
    opened.append(log(2))

    assert opened.snapshot() == [log(1), log(2)]
    assert json.loads(text(store, LOGS)) == [log(1), log(2)]


@pytest.mark.parametrize("raw", [b"", b"[]\n", b"{}\n"])
def test_an_empty_file_opens_in_its_usual_form(store: MemoryStore, raw: bytes) -> None:
    fill(store, LOGS, raw)

    assert store.legacy(LOGS).snapshot() == {"logs": []}


def test_values_are_those_of_the_json_parser(store: MemoryStore) -> None:
    raw = b'{"a": [0.1234567890123456789012345, 1e21, 1.0, 12345678901234567890123]}'
    fill(store, TIERS, raw)

    value = store.legacy(TIERS)["a"]

    assert value == json.loads(raw)["a"]
    assert {type(item) for item in value} <= {int, float}


def test_a_view_tells_what_it_is_a_view_of(store: MemoryStore) -> None:
    shown = [repr(store.legacy(file)) for file in (WALLETS, EVENTS, LOGS)]

    assert all(
        name in text for name, text in zip((WALLETS, EVENTS, LOGS), shown, strict=True)
    )
