"""Investments concluded from events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pend_storage.pend import (
    SCHEMA,
    Asset,
    BlockchainEvent,
    DerivedInvestments,
    Investment,
    User,
    derive_investments,
)
from pend_storage.query import field
from pend_storage.stores.memory import MemoryStore

HASHES = ["0x" + digit * 64 for digit in "abcdef"]
ADDRESSES = ["0x" + digit * 40 for digit in "abcdef"]
USER = User(phone_hash=HASHES[0], blockchain_address=ADDRESSES[0])
GOLD = Asset(legacy_id="gold-vault", title="Gold", contract_address=ADDRESSES[3])
HARVEST = Asset(legacy_id="harvest-pool", title="Harvest")
MOMENT = datetime(2025, 6, 19, 7, 58, 56, tzinfo=UTC)


def event(**fields: Any) -> BlockchainEvent:
    usual: dict[str, Any] = {
        "event_type": "opportunity_investment",
        "timestamp": MOMENT,
        "user_id": USER.id,
        "amount": Decimal(250),
        "transaction_hash": HASHES[1],
        "decoded_data": {"opportunityId": "gold-vault"},
    }
    return BlockchainEvent(**{**usual, **fields})


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore(SCHEMA)
    made.collection(User).put(USER)
    made.collection(Asset).put_many([GOLD, HARVEST])
    return made


def derived(store: MemoryStore, *events: BlockchainEvent) -> list[Investment]:
    store.collection(BlockchainEvent).put_many(events)
    derive_investments(store)
    return list(store.collection(Investment).scan())


def test_an_event_becomes_an_investment_that_says_where_it_comes_from(
    store: MemoryStore,
) -> None:
    told = {
        "opportunityId": "gold-vault",
        "currency": "USDC",
        "paymentMethod": "insta_pay",
        "metadata": {"agreementHash": "0x1", "tags": []},
    }
    source = event(decoded_data=told, block_number=7)

    (investment,) = derived(store, source)

    assert investment == Investment(
        id=investment.id,
        user_id=USER.id,
        asset_id=GOLD.id,
        amount=Decimal(250),
        currency="USDC",
        payment_method="insta_pay",
        status="confirmed",
        transaction_hash=HASHES[1],
        block_number=7,
        invested_at=MOMENT,
        confirmed_at=MOMENT,
        metadata={
            "eventType": "opportunity_investment",
            "opportunityId": "gold-vault",
            "agreementHash": "0x1",
        },
        source_event_id=source.id,
    )


def test_what_was_redeemed_counts_negative(store: MemoryStore) -> None:
    found = derived(
        store,
        event(event_type="harvest_invest", decoded_data={}),
        event(
            event_type="harvest_redeem",
            decoded_data={},
            amount=Decimal(100),
            transaction_hash=HASHES[2],
        ),
    )

    assert {investment.asset_id for investment in found} == {HARVEST.id}
    assert sum(investment.amount for investment in found) == 150


@pytest.mark.parametrize(
    ("word", "status"),
    [
        (None, "confirmed"),
        ("confirmed", "confirmed"),
        ("Invested", "confirmed"),
        ("Successful", "confirmed"),
        ("approved", "confirmed"),
        ("pending", "pending"),
        ("Rejected", "failed"),
        ("refunded", "refunded"),
        ("on its way", "pending"),
    ],
)
def test_status_words_are_mapped_and_the_word_is_kept(
    store: MemoryStore, word: str | None, status: str
) -> None:
    (investment,) = derived(store, event(status=word))

    assert investment.status == status
    assert investment.extra == ({} if word in {None, status} else {"status": word})
    assert (investment.confirmed_at is None) is (status != "confirmed")


def test_deriving_again_changes_nothing(store: MemoryStore) -> None:
    before = derived(store, event(), event(transaction_hash=None))

    report = derive_investments(store)

    assert list(store.collection(Investment).scan()) == before
    assert report == DerivedInvestments(events=2, unchanged=2)


def test_what_new_code_has_changed_stays(store: MemoryStore) -> None:
    (investment,) = derived(store, event())
    changed = replace(investment, status="refunded")
    store.collection(Investment).put(changed)

    derive_investments(store)

    assert store.collection(Investment).get(investment.id) == changed


def test_users_and_assets_that_come_later_are_filled_in(store: MemoryStore) -> None:
    unknown = event(
        user_id=None,
        wallet_address=ADDRESSES[1],
        decoded_data={"opportunityId": "later"},
    )
    (before,) = derived(store, unknown)
    user = User(phone_hash=HASHES[4], blockchain_address=ADDRESSES[1])
    asset = Asset(legacy_id="later", title="Later")
    store.collection(User).put(user)
    store.collection(Asset).put(asset)

    report = derive_investments(store)

    (after,) = store.collection(Investment).scan()
    assert (before.user_id, before.asset_id) == (None, None)
    assert (after.user_id, after.asset_id) == (user.id, asset.id)
    assert report.completed == 1


def test_an_asset_is_found_by_its_contract_too(store: MemoryStore) -> None:
    source = event(contract_address=ADDRESSES[3], decoded_data={"poolId": "gone"})

    (investment,) = derived(store, source)

    assert investment.asset_id == GOLD.id


def test_several_events_about_one_transaction_make_one_investment(
    store: MemoryStore,
) -> None:
    other_name = event(decoded_data={}, contract_address=ADDRESSES[3])
    store.collection(BlockchainEvent).put_many(
        [
            event(),
            event(sub_type="retry"),
            other_name,
            event(transaction_hash=HASHES[5]),
        ]
    )

    report = derive_investments(store)
    again = derive_investments(store)

    assert len(list(store.collection(Investment).scan())) == 2
    assert (report.written, report.duplicates) == (2, 2)
    assert (again.unchanged, again.duplicates) == (2, 2)


def test_only_events_that_tell_of_an_amount_of_money_count(store: MemoryStore) -> None:
    store.collection(BlockchainEvent).put_many(
        [event(amount=None), event(event_type="pin_set"), event(event_type="transfer")]
    )

    report = derive_investments(store)

    assert report == DerivedInvestments(events=1, without_amount=1)
    assert list(store.collection(Investment).scan()) == []


def test_what_does_not_fit_is_kept_beside(store: MemoryStore) -> None:
    told = {"currency": "EGYPTIAN POUNDS", "paymentMethod": "cash on delivery, or not"}

    (investment,) = derived(store, event(decoded_data=told))

    assert (investment.currency, investment.payment_method) == ("EGP", None)
    assert investment.extra == told


def test_many_events_are_worked_through_page_by_page(store: MemoryStore) -> None:
    events = [
        event(transaction_hash=f"0x{number:064x}", amount=Decimal(number))
        for number in range(1_203)
    ]

    found = derived(store, *events)

    assert sum(investment.amount for investment in found) == sum(range(1_203))
    own = field("user_id") == USER.id
    assert (
        store.collection(Investment).count(own, field("status") == "confirmed") == 1_203
    )
