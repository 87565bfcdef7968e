"""Record types of the Pend server: one for each table, and documents for the rest.

Fields of every type:

``extra``
    members of the legacy record that have no field, and spellings that a field does not
    reproduce; rendered into the legacy file again.
``legacy_position``
    place in the legacy file: the older, the smaller. None: newer than all of them.
``content_hash``
    SHA-256 of the canonical JSON of the legacy record when it was read; None for
    records that were never read from a file.

Messages and divergences show type and length of what is personal here: the hash of a phone
number counts, since the numbers are few enough to try, and so do ids derived from it.

A time without any source is None; records made by new code get the present.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pend_storage._model.fields import Limit, Personal
from pend_storage._model.records import JSON
from pend_storage.legacy._document_files import Document
from pend_storage.pend._identity import record_id, user_id_of

__all__ = [
    "AdminLog",
    "Asset",
    "BlockchainEvent",
    "Document",
    "Investment",
    "KycApplication",
    "User",
    "UserProfile",
]

Uuid: TypeAlias = Annotated[
    str, Limit(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
]
Hash: TypeAlias = Annotated[str, Limit(pattern=r"\A0x[0-9a-f]{64}\Z", max_length=66)]
"""32 bytes: lower case, with ``0x``."""
Address: TypeAlias = Annotated[str, Limit(pattern=r"\A0x[0-9a-f]{40}\Z", max_length=42)]
"""20 bytes: lower case, with ``0x``."""
Inet: TypeAlias = Annotated[str, Limit(pattern=r"\A[0-9a-f:.]+\Z", max_length=45)]
PersonalId: TypeAlias = Annotated[Uuid, Personal()]
"""Derived from the hash of a phone number."""
PersonalHash: TypeAlias = Annotated[Hash, Personal()]
PersonalAddress: TypeAlias = Annotated[Address, Personal()]
PersonalText: TypeAlias = Annotated[str, Personal()]
PersonalJSON: TypeAlias = Annotated[JSON, Personal()]
PersonalObject: TypeAlias = Annotated[dict[str, JSON], Personal()]
PersonalList: TypeAlias = Annotated[list[JSON], Personal()]
Tier: TypeAlias = Annotated[int, Limit(ge=0, le=5)]
"""Tier of the widest documented scale; its meaning is the application's."""
Amount: TypeAlias = Annotated[Decimal, Limit(digits=38, places=18)]
Integer: TypeAlias = Annotated[int, Limit(ge=-(2**31), le=2**31 - 1)]
Count: TypeAlias = Annotated[int, Limit(ge=0, le=2**31 - 1)]
BigInteger: TypeAlias = Annotated[int, Limit(ge=-(2**63), le=2**63 - 1)]
ContentHash: TypeAlias = Annotated[str, Limit(pattern=r"\A[0-9a-f]{64}\Z")]
Word: TypeAlias = Annotated[str, Limit(max_length=20)]
Name: TypeAlias = Annotated[str, Limit(max_length=255)]

TRANSACTIONS_LOG = "explorer-data/transactions-log.json"
"""Legacy file that old code reads events from, so new events are shown there."""


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """User: the hash of a phone number and the wallet that belongs to it."""

    id: PersonalId = ""
    """If empty, derived from the phone hash: one number is one user."""
    phone_hash: PersonalHash
    blockchain_address: PersonalAddress
    tier: Tier = 0
    status: Literal["active", "suspended", "closed"] = "active"
    created_at: datetime | None = field(default_factory=_now)
    updated_at: datetime | None = field(default_factory=_now)
    metadata: PersonalObject = field(default_factory=dict)
    legacy_key: PersonalText | None = None
    """Member name in ``wallet-db.json``, in its original spelling."""
    legacy_value: PersonalJSON = None
    """Value in ``wallet-db.json`` where it is more than the canonical address."""
    pin_hash: PersonalText | None = None
    pin_created_at: datetime | None = None
    pin_updated_at: datetime | None = None
    pin_attempts: Count | None = None
    pin_locked_until: datetime | None = None
    extra: PersonalObject = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", user_id_of(self.phone_hash))


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """Profile of a user: contact, activity, balances, KYC status. One for each user."""

    user_id: PersonalId
    phone_number_masked: Annotated[Word, Personal()] | None = None
    """Masked by the server; never the whole number, and never derived from the hash."""
    country_code: Annotated[str, Limit(max_length=3)] | None = None
    registration_ip: Annotated[Inet, Personal()] | None = None
    last_login_at: datetime | None = None
    last_activity_at: datetime | None = None
    """Last activity on the chain."""
    wallet_created_at: datetime | None = None
    login_count: Count = 0
    device_fingerprints: PersonalList = field(default_factory=list)
    preferences: PersonalObject = field(default_factory=dict)
    balances: PersonalObject = field(default_factory=dict)
    """Decimal text by token."""
    metadata: PersonalObject = field(default_factory=dict)
    kyc_status: Word | None = None
    """Copy of the KYC application's status for filters; write both in one commit."""
    wallet_created_block: BigInteger | None = None
    creation_tx_hash: Hash | None = None
    extra: PersonalObject = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """Investment opportunity, deployed or draft."""

    id: Uuid = field(default_factory=_new_id)
    legacy_id: Annotated[str, Limit(max_length=255)] | None = None
    """Legacy ``id`` as text."""
    contract_address: Address | None = None
    """None for drafts, which are not deployed yet."""
    type: Literal["investment", "interest"] = "investment"
    title: Name
    description: str | None = None
    image_url: str | None = None
    category: Annotated[str, Limit(max_length=50)] | None = None
    location: Name | None = None
    status: Literal["active", "paused", "closed", "draft"] = "active"
    token_symbol: Annotated[str, Limit(max_length=32)] | None = None
    token_price: Amount | None = None
    minimum_investment: Amount | None = None
    soft_cap: Amount | None = None
    total_invested: Amount = Decimal(0)
    max_supply: Annotated[Decimal, Limit(digits=78, places=0)] | None = None
    """Wide enough for 256 bits of a token contract."""
    expected_roi: Annotated[Decimal, Limit(digits=9, places=4)] | None = None
    """Percent; None where the file holds more than one number, such as a range."""
    lockup_days: Integer | None = None
    deadline: datetime | None = None
    min_tier_required: Tier | None = None
    investor_count: Integer = 0
    interested_count: Integer = 0
    details: dict[str, JSON] = field(default_factory=dict)
    """Contact, jurisdiction, SPV, custody, legal documents, agreement, manager."""
    metadata: dict[str, JSON] = field(default_factory=dict)
    created_by: PersonalId | None = None
    created_at: datetime | None = field(default_factory=_now)
    updated_at: datetime | None = field(default_factory=_now)
    extra: dict[str, JSON] = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Investment:
    """Investment of a user in an asset, or a redemption with a negative amount."""

    id: Uuid = field(default_factory=_new_id)
    user_id: PersonalId | None = None
    asset_id: Uuid | None = None
    amount: Amount
    currency: Annotated[str, Limit(max_length=10)] = "EGP"
    payment_method: Word | None = None
    status: Literal["pending", "confirmed", "failed", "refunded"] = "pending"
    transaction_hash: Hash | None = None
    block_number: BigInteger | None = None
    invested_at: datetime = field(default_factory=_now)
    confirmed_at: datetime | None = None
    metadata: PersonalObject = field(default_factory=dict)
    source_event_id: Uuid | None = None
    """Event from which it was derived; None for investments of new code."""
    extra: PersonalObject = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KycApplication:
    """KYC application: documents that prove an identity, and the review's outcome."""

    id: PersonalId = ""
    """If empty, derived from the phone hash: a new application overwrites the former,
    as in the legacy file. One with an explicit id is not shown to old code."""
    user_id: PersonalId | None = None
    """None if no user has this phone hash."""
    phone_hash: PersonalHash
    status: Literal["pending_review", "under_review", "verified", "rejected"] = (
        "pending_review"
    )
    submitted_at: datetime | None = None
    reviewed_at: datetime | None = None
    updated_at: datetime = field(default_factory=_now)
    verified_by: str | None = None
    rejection_reason: PersonalText | None = None
    review_notes: PersonalText | None = None
    documents: PersonalObject = field(default_factory=dict)
    """Kind of document to its description, as in the file."""
    metadata: PersonalObject = field(default_factory=dict)
    legacy_key: PersonalText | None = None
    extra: PersonalObject = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None

    def __post_init__(self) -> None:
        if not self.id:
            made = record_id("kyc_applications", self.phone_hash)
            object.__setattr__(self, "id", made)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLog:
    """Audit log entry of an administrator's action. Append only."""

    id: Uuid = field(default_factory=_new_id)
    admin_id: str | None = None
    action: Annotated[str, Limit(max_length=100)]
    resource_type: Annotated[str, Limit(max_length=50)] | None = None
    resource_id: Annotated[Name, Personal()] | None = None
    old_values: PersonalJSON = None
    new_values: PersonalJSON = None
    """Legacy ``data``."""
    ip_address: Annotated[Inet, Personal()] | None = None
    ip_raw: PersonalText | None = None
    """Text in place of an address that is no IP address."""
    user_agent: PersonalText | None = None
    created_at: datetime = field(default_factory=_now)
    created_at_raw: str | None = None
    """Legacy time whose text cannot be rebuilt from ``created_at``."""
    occurrence: Count = 0
    """Number of older entries with the same content."""
    extra: PersonalObject = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockchainEvent:
    """Blockchain event: of a wallet, a contract or the chain. Append only."""

    id: Uuid = field(default_factory=_new_id)
    source: Annotated[str, Limit(max_length=64)] = TRANSACTIONS_LOG
    """Legacy file that shows the event, or ``chain``, which no file shows."""
    legacy_id: str | None = None
    """``id`` in the transaction log; not unique, and without a meaning."""
    event_type: Annotated[str, Limit(max_length=50)]
    sub_type: Annotated[str, Limit(max_length=50)] | None = None
    timestamp: datetime = field(default_factory=_now)
    contract_address: Address | None = None
    from_address: PersonalAddress | None = None
    to_address: PersonalAddress | None = None
    wallet_address: PersonalAddress | None = None
    transaction_hash: Hash | None = None
    block_hash: Hash | None = None
    event_signature: Hash | None = None
    identity_hash: PersonalHash | None = None
    block_number: BigInteger | None = None
    log_index: Integer | None = None
    amount: Amount | None = None
    amount_raw: str | None = None
    """Amount in its original spelling."""
    token: Annotated[str, Limit(max_length=16)] | None = None
    status: Word | None = None
    """None is shown as confirmed in the wallet's interface, and stays None here."""
    decoded_data: PersonalObject = field(default_factory=dict)
    """Members without a column, consent and ``metadata`` included."""
    raw_data: PersonalText | None = None
    processed: bool = False
    processing_attempts: Count = 0
    last_processing_error: str | None = None
    processed_at: datetime | None = None
    user_id: PersonalId | None = None
    """User of ``identity_hash``, if there is one."""
    occurrence: Count = 0
    """Number of older events with the same source and content."""
    extra: PersonalObject = field(default_factory=dict)
    legacy_position: BigInteger | None = None
    content_hash: ContentHash | None = None
