"""The routes: from HTTP to the store, and back."""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import changes
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from guard import Admin, current_admin, require_json
from models import (
    Decided,
    Decision,
    Event,
    Health,
    NewWallet,
    Page,
    PhoneHash,
    QueuedApplication,
    TierChange,
    UserShown,
)

from pend_storage import AsyncStore, DualWriteStore, JsonStore, Phase, Store, field
from pend_storage.pend import BlockchainEvent, KycApplication, User

__all__ = ["guarded", "health"]

guarded = APIRouter(dependencies=[Depends(current_admin), Depends(require_json)])
"""Routes for administrators. A route that is added here is guarded as well."""
health = APIRouter()
"""Routes for everybody: what a load balancer asks."""


async def store_of(request: Request) -> AsyncStore:
    """The store that the application has opened."""
    db: AsyncStore = request.app.state.db
    return db


Db: TypeAlias = Annotated[AsyncStore, Depends(store_of)]
Limit: TypeAlias = Annotated[int, Query(ge=0, le=200)]
After: TypeAlias = Annotated[str | None, Query(max_length=2000)]
IfMatch: TypeAlias = Annotated[str, Header(pattern=r'^("\d{1,18}"|\*)$')]


@guarded.get("/users/{phone_hash}")
async def show_user(phone_hash: PhoneHash, db: Db, response: Response) -> UserShown:
    """A user; the ETag is the version."""
    users = db.collection(User)
    user = await users.get_by("phone_hash", phone_hash)
    found = None if user is None else await users.versioned(user.id)
    if found is None:
        raise HTTPException(404, "there is no such user")
    response.headers["ETag"] = f'"{found.version}"'
    return UserShown.of(found.record)


@guarded.post("/users", status_code=201)
async def create_wallet(
    body: NewWallet, db: Db, admin: Admin, response: Response
) -> UserShown:
    """A new user; 409 where the phone hash or the address has one."""
    user = User(phone_hash=body.phone_hash, blockchain_address=body.wallet_address)
    user, version = await changes.create_wallet(db, user, admin=admin)
    response.headers["ETag"] = f'"{version}"'
    return UserShown.of(user)


@guarded.put("/users/{phone_hash}/tier")
async def change_tier(
    *,
    phone_hash: PhoneHash,
    body: TierChange,
    db: Db,
    admin: Admin,
    response: Response,
    if_match: IfMatch = "*",
) -> UserShown:
    """Another tier; 409 where the user is not at the version that If-Match demands."""
    demanded = None if if_match == "*" else int(if_match.strip('"'))
    change = changes.TierChange(phone_hash, body.tier, body.reason, demanded)
    user, version = await changes.change_tier(db, change, admin=admin)
    response.headers["ETag"] = f'"{version}"'
    return UserShown.of(user)


@guarded.get("/users/{phone_hash}/transactions")
async def show_transactions(
    phone_hash: PhoneHash, db: Db, limit: Limit = 50, after: After = None
) -> Page[Event]:
    """Events of a user's wallet, newest first."""
    found = await db.collection(BlockchainEvent).find(
        field("identity_hash") == phone_hash,
        order_by=["-timestamp"],
        limit=limit,
        after=after,
    )
    return Page(items=[*map(Event.of, found.items)], next=found.next)


@guarded.get("/kyc/pending")
async def show_kyc_queue(
    db: Db, limit: Limit = 50, after: After = None
) -> Page[QueuedApplication]:
    """The KYC applications that wait for a decision, oldest first."""
    found = await db.collection(KycApplication).find(
        field("status") == "pending_review",
        order_by=["updated_at"],
        limit=limit,
        after=after,
    )
    return Page(items=[*map(QueuedApplication.of, found.items)], next=found.next)


@guarded.post("/kyc/status")
async def decide(body: Decision, db: Db, admin: Admin) -> Decided:
    """One status for many KYC applications, or for none of them."""
    count = await changes.decide(db, body.phone_hashes, body.status, admin=admin)
    return Decided(changed=count)


@health.get("/health")
async def show_health(db: Db) -> Health:
    """The phase, and how far the secondary is behind."""
    return await db.call(health_of)


def health_of(store: Store) -> Health:
    """Health of a store: phase and lag; a single store is never behind."""
    if not isinstance(store, DualWriteStore):
        phase = Phase.JSON_ONLY if isinstance(store, JsonStore) else Phase.POSTGRES_ONLY
        return Health(phase=phase, lag_commits=0, lag_seconds=0, secondary_up=True)
    lag = store.lag()
    return Health(
        phase=store.phase,
        lag_commits=lag.commits,
        lag_seconds=lag.seconds if math.isfinite(lag.seconds) else None,
        secondary_up=lag.secondary_up,
    )
