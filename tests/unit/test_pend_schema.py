"""The Pend server's records and collections as new code uses them."""

from __future__ import annotations

import json
import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.errors import InvalidRecord, ReferenceViolation, UniqueViolation
from pend_storage.pend import (
    LAYOUTS,
    SCHEMA,
    AdminLog,
    Asset,
    BlockchainEvent,
    Document,
    Investment,
    KycApplication,
    User,
    UserProfile,
)
from pend_storage.pend._identity import record_id
from pend_storage.query import field
from pend_storage.stores.memory import MemoryStore

HASH, OTHER = "0x" + "a" * 64, "0x" + "b" * 64
ADDRESS = "0x" + "c" * 40
COLUMNS = {
    User: "id phone_hash blockchain_address tier status created_at updated_at metadata "
    "legacy_key legacy_value pin_hash pin_created_at pin_updated_at pin_attempts "
    "pin_locked_until",
    UserProfile: "user_id phone_number_masked country_code registration_ip last_login_at "
    "last_activity_at wallet_created_at login_count device_fingerprints preferences "
    "balances metadata kyc_status wallet_created_block creation_tx_hash",
    Asset: "id legacy_id contract_address type title description image_url category "
    "location status token_symbol token_price minimum_investment soft_cap "
    "total_invested max_supply expected_roi lockup_days deadline min_tier_required "
    "investor_count interested_count details metadata created_by created_at updated_at",
    Investment: "id user_id asset_id amount currency payment_method status "
    "transaction_hash block_number invested_at confirmed_at metadata source_event_id",
    KycApplication: "id user_id phone_hash status submitted_at reviewed_at updated_at "
    "verified_by rejection_reason review_notes documents metadata legacy_key",
    AdminLog: "id admin_id action resource_type resource_id old_values new_values "
    "ip_address ip_raw user_agent created_at created_at_raw occurrence",
    BlockchainEvent: "id source legacy_id event_type sub_type timestamp contract_address "
    "from_address to_address wallet_address transaction_hash block_hash event_signature "
    "identity_hash block_number log_index amount amount_raw token status decoded_data "
    "raw_data processed processing_attempts last_processing_error processed_at user_id "
    "occurrence",
}
RECORDS: dict[str, Any] = {
    "users": User(phone_hash=HASH, blockchain_address=ADDRESS),
    "user_profiles": UserProfile(user_id=str(uuid.uuid4())),
    "assets": Asset(title="Olives"),
    "blockchain_events": BlockchainEvent(event_type="Transfer"),
    "investments": Investment(amount=Decimal("0.1234567")),
    "kyc_applications": KycApplication(phone_hash=HASH),
    "admin_logs": AdminLog(action="ADMIN_ACCESS"),
    "documents": Document(file="consents-db.json", body=[None]),
}


@pytest.mark.parametrize("record_type", COLUMNS, ids=lambda t: t.__name__)
def test_a_table_has_the_columns_it_should(record_type: type) -> None:
    common = ["extra", "legacy_position", "content_hash"]

    assert [f.name for f in fields(record_type)] == COLUMNS[
        record_type
    ].split() + common


def test_every_collection_is_called_like_its_table() -> None:
    assert [spec.name for spec in SCHEMA.declared] == list(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_new_code_needs_to_give_very_little(name: str) -> None:
    put = SCHEMA.put(name, RECORDS[name])

    assert str(uuid.UUID(put.key)) == put.key
    assert SCHEMA[name].codec.decode(put.body) == RECORDS[name]


@pytest.mark.parametrize(
    ("record", "column", "value"),
    [
        ("users", "phone_hash", "a" * 64),
        ("users", "phone_hash", HASH.upper()),
        ("users", "phone_hash", HASH + "\n"),
        ("users", "blockchain_address", ADDRESS[:-1]),
        ("users", "tier", 6),
        ("users", "tier", -1),
        ("users", "status", "sleeping"),
        ("users", "id", "7"),
        ("user_profiles", "registration_ip", "unknown"),
        ("user_profiles", "phone_number_masked", "+" * 21),
        ("assets", "token_price", Decimal("1e-19")),
        ("assets", "token_price", Decimal(10) ** 20),
        ("assets", "max_supply", Decimal("0.5")),
        ("assets", "max_supply", Decimal(10) ** 78),
        ("assets", "expected_roi", Decimal("1.23456")),
        ("assets", "lockup_days", 2**31),
        ("investments", "amount", None),
        ("blockchain_events", "block_number", 2**63),
        ("blockchain_events", "event_type", "x" * 51),
        ("admin_logs", "action", "x" * 101),
    ],
)
def test_what_a_column_cannot_hold_is_refused(
    record: str, column: str, value: object
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        SCHEMA.put(record, replace(RECORDS[record], **{column: value}))

    assert caught.value.field == column


@pytest.mark.parametrize(
    ("record", "column", "value"),
    [
        ("assets", "max_supply", Decimal(2**256 - 1)),
        ("assets", "token_price", Decimal("99999999999999999999.999999999999999999")),
        ("assets", "expected_roi", Decimal("1000.0001")),
        ("investments", "amount", Decimal("-0.1234567")),
        ("blockchain_events", "block_number", 2**63 - 1),
        ("user_profiles", "registration_ip", "::ffff:192.0.2.7"),
    ],
)
def test_what_real_data_has_fits(record: str, column: str, value: object) -> None:
    put = SCHEMA.put(record, replace(RECORDS[record], **{column: value}))

    assert getattr(SCHEMA[record].codec.decode(put.body), column) == value


def test_one_number_is_one_user_whoever_writes_it_first() -> None:
    store = MemoryStore(SCHEMA)
    users = store.collection(User)
    users.put(User(phone_hash=HASH, blockchain_address=ADDRESS))

    users.put(User(phone_hash=HASH, blockchain_address="0x" + "d" * 40))

    assert users.count() == 1
    with pytest.raises(UniqueViolation):
        users.put(User(phone_hash=OTHER, blockchain_address="0x" + "d" * 40))


def test_a_profile_needs_its_user() -> None:
    store = MemoryStore(SCHEMA)

    with pytest.raises(ReferenceViolation):
        store.collection(UserProfile).put(RECORDS["user_profiles"])


def test_a_user_is_found_by_hash_by_address_and_by_a_part_of_it() -> None:
    store = MemoryStore(SCHEMA)
    users = store.collection(User)
    user = User(phone_hash=HASH, blockchain_address="0x12" + "c" * 38)
    users.put(user)

    assert users.get_by("phone_hash", HASH) == user
    assert users.get_by("blockchain_address", user.blockchain_address) == user
    assert users.find(field("blockchain_address").contains("12CC")).items == (user,)


def test_a_resubmission_overwrites_and_history_takes_an_id_of_its_own() -> None:
    first = KycApplication(phone_hash=HASH)

    assert KycApplication(phone_hash=HASH, status="verified").id == first.id
    assert KycApplication(phone_hash=HASH, id=str(uuid.uuid4())).id != first.id


def test_a_copy_keeps_its_key() -> None:
    user = User(phone_hash=HASH, blockchain_address=ADDRESS)

    assert replace(user, phone_hash=OTHER).id == user.id


def test_every_time_of_new_code_is_the_present() -> None:
    before = datetime.now(UTC)

    made = [
        User(phone_hash=HASH, blockchain_address=ADDRESS).created_at,
        BlockchainEvent(event_type="x").timestamp,
        AdminLog(action="x").created_at,
    ]

    assert all(moment is not None and before <= moment for moment in made)


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_keys_are_standard_uuids_of_version_five(parts: list[str]) -> None:
    made = uuid.UUID(record_id("kind", *parts))

    assert (made.version, made.variant) == (5, uuid.RFC_4122)
    assert record_id("kind", *parts) == str(made)
    assert record_id("other", *parts) != str(made)


def test_no_two_layouts_claim_one_file_and_users_are_read_first() -> None:
    files = [layout.file for layout in LAYOUTS]

    assert len(set(files)) == len(files) == 16
    assert files[0] == "wallet-db.json"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.file)
def test_an_order_is_total_and_new_records_stand_at_the_growing_end(
    layout: Any,
) -> None:
    spec = SCHEMA[layout.collection]
    old = replace(RECORDS[spec.name], legacy_position=3)
    older = replace(old, legacy_position=-7)
    new = replace(old, legacy_position=None)

    ordered = sorted([new, old, older], key=lambda record: layout.order(record, 5))

    expected = [older, old, new]
    assert ordered == (expected[::-1] if layout.newest_first else expected)
    assert layout.position(layout.placed(new, 9)) == 9


def test_legacy_files_hold_json_that_old_code_can_read() -> None:
    store = MemoryStore(SCHEMA)
    store.layouts = LAYOUTS
    store.collection(Asset).put(Asset(title="Olives", token_price=Decimal("2.50")))

    shown = store.legacy("admin-opportunities.json").snapshot()

    assert json.loads(json.dumps(shown))["opportunities"][0]["tokenPrice"] == "2.5"
