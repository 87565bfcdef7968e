"""Messages on the wire: checked on the way in, in camelCase both ways."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from pend_storage import Phase
from pend_storage.pend import BlockchainEvent, KycApplication, User

__all__ = [
    "Decided",
    "Decision",
    "Event",
    "Health",
    "NewWallet",
    "Page",
    "PhoneHash",
    "QueuedApplication",
    "TierChange",
    "UserShown",
]

PhoneHash = Annotated[
    str, StringConstraints(pattern="^0x[0-9a-fA-F]{64}$", to_lower=True)
]
Address = Annotated[
    str, StringConstraints(pattern="^0x[0-9a-fA-F]{40}$", to_lower=True)
]
T = TypeVar("T")


class Wire(BaseModel):
    """Members are spelled in camelCase, and unknown ones are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid"
    )


class NewWallet(Wire):
    phone_hash: PhoneHash
    wallet_address: Address


class TierChange(Wire):
    tier: int
    """How high it may be is for the schema to say."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """For the audit entry. Who asks is not in the body: the token says it."""


class Decision(Wire):
    """One status for many KYC applications."""

    phone_hashes: Annotated[list[PhoneHash], Field(max_length=100)]
    status: Annotated[str, StringConstraints(max_length=50)]


class Decided(Wire):
    changed: int


class UserShown(Wire):
    phone_hash: str
    wallet_address: str
    tier: int
    status: str

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            phone_hash=user.phone_hash,
            wallet_address=user.blockchain_address,
            tier=user.tier,
            status=user.status,
        )


class Event(Wire):
    id: str
    type: str
    timestamp: datetime
    amount: Decimal | None
    token: str | None
    tx_hash: str | None
    status: str | None

    @classmethod
    def of(cls, event: BlockchainEvent) -> Self:
        return cls(
            id=event.id,
            type=event.event_type,
            timestamp=event.timestamp,
            amount=event.amount,
            token=event.token,
            tx_hash=event.transaction_hash,
            status=event.status,
        )


class QueuedApplication(Wire):
    phone_hash: str
    submitted_at: datetime
    documents: list[str]

    @classmethod
    def of(cls, application: KycApplication) -> Self:
        return cls(
            phone_hash=application.phone_hash,
            submitted_at=application.updated_at,
            documents=sorted(application.documents),
        )


class Page(Wire, Generic[T]):
    items: list[T]
    next: str | None
    """To be given back as ``after``; null on the last page."""


class Health(Wire):
    phase: Phase
    lag_commits: int
    lag_seconds: float | None
    """None: so far behind that it cannot catch up."""
    secondary_up: bool
