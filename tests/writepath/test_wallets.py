"""Removal of a wallet from its file, and its return: the records that depend on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.events import Event
from pend_storage.pend import Investment, KycApplication, User, UserProfile
from pend_storage.pend._identity import user_id_of
from pend_storage.records import QuarantinedRecord
from pend_storage.store import Store
from tests.ages import age

from .conftest import a_json

WALLETS = "wallet-db.json"
KYC = "uploads/kyc/metadata.json"
NAMES = [f"0x{n:064x}" for n in (1, 2, 3)]
ADDRESSES = [f"0x{n:040x}" for n in (1, 2, 3)]
USERS = [user_id_of(name) for name in NAMES]
ENTRY = {"verificationStatus": "verified", "lastUpdated": "2025-06-19T07:58:56.380Z"}
ONE, TWO, THREE = NAMES


@pytest.fixture
def wallets(store: Store) -> Any:
    """Three wallets; the second one is verified."""
    view = store.legacy(WALLETS)
    view.update(zip(NAMES, ADDRESSES, strict=True))
    store.legacy(KYC)[TWO] = ENTRY
    return view


def profile(store: Store, user: str) -> UserProfile | None:
    return store.collection(UserProfile).get(user)


def application(store: Store) -> KycApplication:
    (found,) = store.collection(KycApplication).find().items
    return found


def quarantined(store: Store, *, code: str | None = None) -> list[QuarantinedRecord]:
    found = store.collection(QuarantinedRecord).scan()
    return [r for r in found if code is None or r.code == code]


def invested(store: Store, user: str) -> Investment:
    made = Investment(user_id=user, amount=Decimal(5))
    store.collection(Investment).put(made)
    return made


def logged_in(store: Store, user: str, *, tier: int = 3) -> None:
    """A field of a user that only new code wrote, and no file has."""
    known, found = profile(store, user), store.collection(User).get(user)
    assert known is not None
    assert found is not None
    store.collection(UserProfile).put(replace(known, login_count=7))
    store.collection(User).put(replace(found, tier=tier))


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


# -- removed ----------------------------------------------------------------------------


def by_del(view: Any) -> None:
    del view[TWO]


def by_pop(view: Any) -> None:
    assert view.pop(TWO) == ADDRESSES[1]


@pytest.mark.parametrize("remove", [by_del, by_pop])
def test_a_profile_that_only_files_tell_of_goes_with_its_wallet(
    store: Store, wallets: Any, remove: Callable[[Any], None]
) -> None:
    remove(wallets)

    assert (store.collection(User).get(USERS[1]), profile(store, USERS[1])) == (
        None,
    ) * 2
    assert (application(store).user_id, quarantined(store)) == (None, [])
    assert store.legacy(KYC).snapshot() == {TWO: ENTRY}
    assert list(wallets) == [ONE, THREE]


def test_what_files_tell_comes_back_with_the_wallet(store: Store, wallets: Any) -> None:
    before = profile(store, USERS[1])
    del wallets[TWO]

    wallets[TWO] = ADDRESSES[1]

    assert before is not None
    assert profile(store, USERS[1]) == before
    assert before.kyc_status == "verified"
    assert application(store).user_id == USERS[1]


def test_a_profile_of_new_code_waits_in_quarantine(
    store: Store, wallets: Any, events: list[Event]
) -> None:
    logged_in(store, USERS[1])
    events.clear()

    del wallets[TWO]

    (waiting,) = quarantined(store)
    assert (waiting.code, waiting.status) == ("reference-lost", "waiting")
    assert waiting.place == USERS[1]
    assert json.loads(b"{%b}" % waiting.raw)[USERS[1]]["login_count"] == 7
    assert profile(store, USERS[1]) is None
    (told,) = [e for e in events if e.name == "file-record-removed"]
    assert waiting.id in told.message
    assert "kyc_applications" in told.message


def test_clear_and_popitem_take_everything(store: Store, wallets: Any) -> None:
    assert wallets.popitem() == (THREE, ADDRESSES[2])
    wallets.clear()

    assert (len(wallets), store.collection(UserProfile).count()) == (0, 0)
    assert store.legacy(KYC).snapshot() == {TWO: ENTRY}


# -- displaced --------------------------------------------------------------------------


def test_a_swap_by_two_assignments_loses_nothing(store: Store, wallets: Any) -> None:
    for user in USERS[:2]:
        logged_in(store, user)
    money = [invested(store, user) for user in USERS[:2]]
    want = {ONE: ADDRESSES[1], TWO: ADDRESSES[0], THREE: ADDRESSES[2]}

    wallets[ONE], wallets[TWO] = wallets[TWO], wallets[ONE]

    assert wallets.snapshot() == want
    assert quarantined(store) == []
    for user, made, address in zip(USERS, money, ADDRESSES[1::-1], strict=False):
        found, known = store.collection(User).get(user), profile(store, user)
        assert found is not None
        assert known is not None
        assert (found.blockchain_address, found.tier) == (address, 3)
        assert known.login_count == 7
        again = store.collection(Investment).get(made.id)
        assert again is not None
        assert again.user_id == user
    assert application(store).user_id == USERS[1]


def test_a_swap_in_one_edit_is_two_changes(store: Store, wallets: Any) -> None:
    wallets.update({ONE: ADDRESSES[1], TWO: ADDRESSES[0]})

    assert wallets.snapshot() == dict(
        zip(NAMES, [ADDRESSES[1], ADDRESSES[0], ADDRESSES[2]], strict=True)
    )
    assert quarantined(store) == []


def test_the_second_of_one_address_waits_until_it_is_free(
    store: Store, wallets: Any
) -> None:
    wallets[ONE] = ADDRESSES[1]

    (waiting,) = quarantined(store, code="value-taken")
    assert waiting.place == TWO
    assert wallets.snapshot()[TWO] == ADDRESSES[1]
    assert store.collection(User).get(USERS[1]) is None
    wallets[ONE] = "no address"
    found = store.collection(User).get(USERS[1])
    assert found is not None
    assert found.blockchain_address == ADDRESSES[1]
    assert quarantined(store, code="value-taken") == []


def test_a_value_that_cannot_be_placed_displaces_its_record_and_brings_it_back(
    store: Store, wallets: Any, events: list[Event]
) -> None:
    logged_in(store, USERS[1])
    made = invested(store, USERS[1])
    events.clear()

    wallets[TWO] = None
    wallets[TWO] = 17

    assert wallets.snapshot() == {ONE: ADDRESSES[0], TWO: 17, THREE: ADDRESSES[2]}
    assert store.collection(User).get(USERS[1]) is None
    (waiting,) = [r for r in quarantined(store) if r.status == "waiting"]
    assert (waiting.file, waiting.place, waiting.raw[-2:]) == (WALLETS, TWO, b"17")
    assert names(events).count("file-write-quarantined") == 2

    wallets[TWO] = ADDRESSES[1]

    found, known = store.collection(User).get(USERS[1]), profile(store, USERS[1])
    again = store.collection(Investment).get(made.id)
    assert found is not None
    assert known is not None
    assert again is not None
    assert (found.tier, known.login_count, again.user_id) == (3, 7, USERS[1])
    assert application(store).user_id == USERS[1]
    assert quarantined(store) == []
    assert list(wallets) == NAMES


def test_strict_refuses_and_changes_nothing(store: Store, wallets: Any) -> None:
    before = wallets.snapshot()
    strict = store.legacy(WALLETS, strict=True)

    for value in (None, ADDRESSES[0]):
        with pytest.raises(InvalidRecord):
            strict[TWO] = value

    assert wallets.snapshot() == before
    assert quarantined(store) == []


# -- old code ---------------------------------------------------------------------------


def save(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2))
    age(path)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("new_code", [False, True])
def test_old_code_deletes_a_wallet_and_puts_it_back(
    tmp_path: Path, events: list[Event], *, closed: bool, new_code: bool
) -> None:
    data = tmp_path / "data"
    (data / "uploads/kyc").mkdir(parents=True)
    whole = dict(zip(NAMES, ADDRESSES, strict=True))
    save(data / WALLETS, whole)
    save(data / KYC, {TWO: ENTRY})
    store = a_json(data, events)
    before = profile(store, USERS[1])
    if new_code:
        logged_in(store, USERS[1])
    files = {file: (data / file).read_bytes() for file in (WALLETS, KYC)}

    for value in ({ONE: ADDRESSES[0], THREE: ADDRESSES[2]}, whole):
        store.checkpoint()
        if closed:
            store.close()
        save(data / WALLETS, value)
        if closed:
            store = a_json(data, events)
        store.checkpoint()
        store.checkpoint()
        there = store.collection(User).get(USERS[1]) is not None
        assert there is (TWO in value)
        assert json.loads((data / WALLETS).read_text()) == value
        assert (data / KYC).read_bytes() == files[KYC]
        assert application(store).user_id == (USERS[1] if there else None)
    assert (data / WALLETS).read_bytes() == files[WALLETS]
    assert profile(store, USERS[1]) == before
    assert len(quarantined(store)) == new_code
    assert ("file-record-removed" in names(events)) is True
    assert "outside-edit-refused" not in names(events)
    store.close()


def test_old_code_swaps_by_two_edits(tmp_path: Path, events: list[Event]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    whole = dict(zip(NAMES, ADDRESSES, strict=True))
    save(data / WALLETS, whole)
    with a_json(data, events) as store:
        for user in USERS[:2]:
            logged_in(store, user)
        money = [invested(store, user) for user in USERS[:2]]
        store.checkpoint()
        for name, address in ((ONE, ADDRESSES[1]), (TWO, ADDRESSES[0])):
            whole[name] = address
            save(data / WALLETS, whole)
            store.checkpoint()
            store.checkpoint()
            assert json.loads((data / WALLETS).read_text()) == whole
        users = [store.collection(User).get(user) for user in USERS]
        found = [(u.blockchain_address, u.tier) for u in users if u is not None]
        assert found == [(ADDRESSES[1], 3), (ADDRESSES[0], 3), (ADDRESSES[2], 0)]
        kept = [store.collection(Investment).get(made.id) for made in money]
        assert [i.user_id for i in kept if i is not None] == USERS[:2]
        assert quarantined(store) == []


def test_a_file_that_broke_takes_no_writes(tmp_path: Path, events: list[Event]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    save(data / WALLETS, {ONE: ADDRESSES[0]})
    with a_json(data, events) as store:
        view = store.legacy(WALLETS)
        (data / WALLETS).write_text('{"a": ')
        age(data / WALLETS)
        store.checkpoint()
        for write in (lambda: view.update({TWO: ADDRESSES[1]}), view.clear):
            with pytest.raises(CorruptFile, match="quarantine retry"):
                write()
        assert view.snapshot() == {ONE: ADDRESSES[0]}
        save(data / WALLETS, {ONE: ADDRESSES[0]})
        store.checkpoint()
        view[TWO] = ADDRESSES[1]
        store.checkpoint()
        assert list(json.loads((data / WALLETS).read_text())) == [ONE, TWO]
