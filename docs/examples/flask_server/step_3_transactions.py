"""The server on transactions: what belongs together is written together, or not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from access import admin, guard, items_of, members
from answers import (
    answer_errors,
    paging,
    shown_application,
    shown_event,
    shown_user,
    user_of,
    wanted_version,
)
from flask import Flask, abort
from serving import serve, site

from pend_storage import DualWriteStore, Transaction, field
from pend_storage.pend import (
    AdminLog,
    BlockchainEvent,
    KycApplication,
    User,
    UserProfile,
)

app = Flask(__name__)
guard(app)
answer_errors(app)


@app.get("/users/<phone_hash>")
def show_user(phone_hash: str) -> Any:
    return shown_user(*user_of(site.store, phone_hash))


@app.post("/users")
def create_wallet() -> Any:
    phone_hash, address = (
        str(m).lower() for m in members("phoneHash", "walletAddress")
    )
    user = User(phone_hash=phone_hash, blockchain_address=address)
    created = BlockchainEvent(
        event_type="wallet_creation",
        status="confirmed",
        identity_hash=phone_hash,
        wallet_address=address,
        user_id=user.id,
    )
    with site.store.acting(by=admin()), site.store.transaction() as tx:
        tx.collection(User).put(user, if_version=0)
        tx.collection(UserProfile).put(UserProfile(user_id=user.id))
        tx.collection(BlockchainEvent).put(created)
    return shown_user(user, tx.versions["users", user.id], 201)


@app.put("/users/<phone_hash>/tier")
def change_tier(phone_hash: str) -> Any:
    tier, reason = members("tier", "reason")
    version = wanted_version()

    def change(tx: Transaction) -> tuple[Transaction, User]:
        found = tx.collection(User).get_by("phone_hash", phone_hash)
        user = found or abort(404, "there is no such user")
        changed = replace(user, tier=tier, updated_at=datetime.now(UTC))
        tx.collection(User).put(changed, if_version=version)
        tx.collection(AdminLog).put(
            AdminLog(
                action="UPDATE_USER_TIER",
                admin_id=admin(),
                resource_type="user",
                resource_id=phone_hash,
                old_values={"tier": user.tier},
                new_values={"identityHash": phone_hash, "tier": tier, "reason": reason},
            )
        )
        return tx, changed

    # A client that demands a version gets the conflict; for others it is tried again.
    with site.store.acting(by=admin()):
        tx, user = site.store.run(change, attempts=10 if version is None else 1)
    return shown_user(user, tx.versions["users", user.id])


@app.get("/users/<phone_hash>/transactions")
def show_transactions(phone_hash: str) -> Any:
    found = site.store.collection(BlockchainEvent).find(
        field("identity_hash") == phone_hash, order_by=["-timestamp"], **paging()
    )
    return {"items": [*map(shown_event, found.items)], "next": found.next}


@app.get("/kyc/pending")
def show_kyc_queue() -> Any:
    found = site.store.collection(KycApplication).find(
        field("status") == "pending_review", order_by=["updated_at"], **paging()
    )
    return {"items": [*map(shown_application, found.items)], "next": found.next}


@app.post("/kyc/status")
def change_kyc_status() -> Any:
    hashes, status = members("phoneHashes", "status")
    hashes = items_of("phoneHashes", hashes)
    keys = dict.fromkeys(KycApplication(phone_hash=str(each)).id for each in hashes)

    def change(tx: Transaction) -> None:
        found = tx.collection(KycApplication).get_many(keys)
        if len(found) < len(keys):
            abort(404, "there is no such application")
        for key in keys:
            decide(tx, found[key], status)

    with site.store.acting(by=admin()):
        site.store.run(change)
    return {"changed": len(keys)}


@app.get("/health")
def show_health() -> Any:
    store = site.store
    if not isinstance(store, DualWriteStore):
        return {"phase": None, "lag": None}  # a store that stands alone has none
    lag = store.lag()
    return {"phase": store.phase.value, "lag": lag.commits}


def decide(tx: Transaction, application: KycApplication, status: Any) -> None:
    """Give an application a status, with the copy in the profile and an audit entry."""
    at = datetime.now(UTC)
    tx.collection(KycApplication).put(
        replace(application, status=status, updated_at=at, verified_by=admin())
    )
    profiles, user = tx.collection(UserProfile), application.user_id
    if user and (profile := profiles.get(user)):
        profiles.put(replace(profile, kyc_status=status))
    phone_hash = application.phone_hash
    tx.collection(AdminLog).put(
        AdminLog(
            action="UPDATE_KYC_STATUS",
            admin_id=admin(),
            resource_type="kyc_application",
            resource_id=phone_hash,
            old_values={"status": application.status},
            new_values={"identityHash": phone_hash, "status": status, "admin": admin()},
            created_at=at,
        )
    )


if __name__ == "__main__":
    serve(app)
