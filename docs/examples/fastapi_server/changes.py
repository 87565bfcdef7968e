"""Writes of the routes: related changes in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pend_storage import AsyncStore, AsyncTransaction, Versioned
from pend_storage.pend import (
    AdminLog,
    BlockchainEvent,
    KycApplication,
    User,
    UserProfile,
)

__all__ = ["NotThereError", "TierChange", "change_tier", "create_wallet", "decide"]


class NotThereError(LookupError):
    """The record to be changed does not exist."""


async def create_wallet(db: AsyncStore, user: User, *, admin: str) -> Versioned[User]:
    """Write a new user, with the profile, and with the event that records it.

    Raises:
        Conflict: the phone hash has a user.
        UniqueViolation: the address has a user.
    """
    created = BlockchainEvent(
        event_type="wallet_creation",
        status="confirmed",
        identity_hash=user.phone_hash,
        wallet_address=user.blockchain_address,
        user_id=user.id,
    )
    with db.acting(by=admin):  # the change log and the feed have the name as well
        async with db.transaction() as tx:
            await tx.collection(User).put(user, if_version=0)
            await tx.collection(UserProfile).put(UserProfile(user_id=user.id))
            await tx.collection(BlockchainEvent).put(created)
    return Versioned(user, tx.versions["users", user.id])


@dataclass(frozen=True)
class TierChange:
    """Wanted tier of a user; with a version, only if the user is still at it."""

    phone_hash: str
    tier: int
    reason: str
    if_version: int | None


async def change_tier(
    db: AsyncStore, wanted: TierChange, *, admin: str
) -> Versioned[User]:
    """Give a user another tier, with an audit entry.

    Raises:
        NotThereError: there is no such user.
        Conflict: the user is not at the wanted version. Without one, it is tried again.
        InvalidRecord: the schema knows no such tier.
    """

    async def change(tx: AsyncTransaction) -> tuple[AsyncTransaction, User]:
        user = await tx.collection(User).get_by("phone_hash", wanted.phone_hash)
        if user is None:
            raise NotThereError("there is no such user")
        changed = replace(user, tier=wanted.tier, updated_at=datetime.now(UTC))
        await tx.collection(User).put(changed, if_version=wanted.if_version)
        tiers = {"tier": (user.tier, wanted.tier)}
        entry = _entry("USER_TIER", user.phone_hash, tiers, admin, wanted.reason)
        await tx.collection(AdminLog).put(entry)
        return tx, changed

    with db.acting(by=admin):
        tx, user = await db.run(change, attempts=10 if wanted.if_version is None else 1)
    return Versioned(user, tx.versions["users", user.id])


async def decide(
    db: AsyncStore, phone_hashes: list[str], status: Any, *, admin: str
) -> int:
    """Give many KYC applications a status, with an audit entry each; all, or none.

    Raises:
        NotThereError: one of the applications is not there.
        InvalidRecord: the schema knows no such status.
    """
    keys = {KycApplication(phone_hash=each).id for each in phone_hashes}

    async def change(tx: AsyncTransaction) -> None:
        found = await tx.collection(KycApplication).get_many(keys)
        if len(found) < len(keys):
            raise NotThereError("there is no such application")
        for application in found.values():
            await _decide_one(tx, application, status, admin)

    with db.acting(by=admin):
        await db.run(change)
    return len(keys)


async def _decide_one(
    tx: AsyncTransaction, application: KycApplication, status: Any, admin: str
) -> None:
    """Write the status, its copy in the user's profile, and the audit entry."""
    now = datetime.now(UTC)
    await tx.collection(KycApplication).put(
        replace(application, status=status, updated_at=now, verified_by=admin)
    )
    profiles, user = tx.collection(UserProfile), application.user_id
    if user and (profile := await profiles.get(user)):
        await profiles.put(replace(profile, kyc_status=status))
    changed = {"status": (application.status, status)}
    entry = _entry("KYC_STATUS", application.phone_hash, changed, admin)
    await tx.collection(AdminLog).put(entry)


def _entry(
    what: str,
    phone_hash: str,
    changed: dict[str, tuple[Any, Any]],
    admin: str,
    reason: str | None = None,
) -> AdminLog:
    """Return an audit entry; ``changed`` has old and new value by name."""
    new = {name: value for name, (_, value) in changed.items()}
    why = {} if reason is None else {"reason": reason}
    return AdminLog(
        action=f"UPDATE_{what}",
        admin_id=admin,
        resource_type="user" if what == "USER_TIER" else "kyc_application",
        resource_id=phone_hash,
        old_values={name: value for name, (value, _) in changed.items()},
        new_values={"identityHash": phone_hash, **new, **why, "admin": admin},
    )
