"""The record that every contender keeps: thirteen typed fields, 420 bytes as JSON."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from pend_storage._model.fields import Limit
from pend_storage.records import JSON
from pend_storage.schema import Schema, collection

__all__ = [
    "SCHEMA",
    "Account",
    "Document",
    "account",
    "accounts",
    "as_document",
    "documents",
    "revised",
    "revisions",
    "shuffled",
]

Document: TypeAlias = dict[str, Any]
"""A record as peers without types keep it: nothing but JSON values."""

_START: Final = datetime(2025, 1, 1, tzinfo=UTC)
_STATUS: Final[tuple[Literal["active", "pending", "suspended"], ...]] = (
    "active",
    "active",
    "active",
    "pending",
    "suspended",
)
_LOCALES: Final = ("en-KE", "fr-CI", "pt-BR", "en-NG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account. All values are invented."""

    id: str
    phone_hash: Annotated[str, Limit(max_length=66)]
    """Unique."""
    address: Annotated[str, Limit(max_length=42)]
    """Unique."""
    tier: Annotated[int, Limit(ge=0, le=5)]
    status: Literal["active", "pending", "suspended"]
    verified: bool
    balance: Annotated[Decimal, Limit(digits=20, places=7)]
    score: float
    opened_at: datetime
    seen_at: datetime
    referrer: str | None = None
    profile: dict[str, JSON] = field(default_factory=dict)
    metadata: dict[str, JSON] = field(default_factory=dict)


SCHEMA: Final = Schema(
    [
        collection(
            "accounts",
            Account,
            unique=["phone_hash", "address"],
            indexes=[["tier"], ["status", "-opened_at"]],
        )
    ]
)


@lru_cache(maxsize=2)
def accounts(count: int) -> tuple[Account, ...]:
    """So many accounts, the same ones every time."""
    return tuple(account(number) for number in range(count))


def account(number: int) -> Account:
    """The account of that number."""
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return Account(
        id=f"u{number:08d}",
        phone_hash=digest,
        address="0x" + digest[10:50],
        tier=number % 4,
        status=_STATUS[number % 5],
        verified=number % 3 == 0,
        balance=Decimal(number * 7919 % 10_000_019).scaleb(-4),
        score=number % 100 / 100,
        opened_at=_START + timedelta(seconds=number * 7919 % 31_000_000),
        seen_at=_START + timedelta(days=330, seconds=number * 31 % 2_000_000),
        profile={
            "name": f"User {number}",
            "locale": _LOCALES[number % 4],
            "kyc": number % 3 == 0,
            "limit": number % 7 * 1000,
        },
        metadata={"source": "ussd", "tag": digest[:6], "rev": 0},
    )


def revised(before: Account, revision: int) -> Account:
    """The same account after something has happened to it."""
    return replace(
        before,
        tier=revision % 4,
        score=revision % 100 / 100,
        seen_at=before.seen_at + timedelta(seconds=revision + 1),
        metadata={**before.metadata, "rev": revision},
    )


def as_document(typed: Account) -> Document:
    """An account as plain JSON values."""
    document: Document = msgspec.to_builtins(typed)
    return document


def documents(count: int) -> dict[str, Document]:
    """So many accounts as plain JSON values, by key."""
    return {each.id: as_document(each) for each in accounts(count)}


def shuffled(count: int, most: int = 5_000) -> list[Account]:
    """Accounts in the order in which calls use them: at most so many, at random."""
    chooser = random.Random(11)  # noqa: S311 - an order, not a secret
    return [account(each) for each in chooser.sample(range(count), min(most, count))]


def revisions(count: int) -> list[Account]:
    """Records of the put calls: the next one under a key is always different."""
    chosen = shuffled(count)
    return [revised(each, turn) for turn in (1, 2) for each in chosen]
