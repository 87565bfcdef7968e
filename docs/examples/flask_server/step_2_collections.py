"""The server on records: typed, checked, and found by queries."""

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

from pend_storage import field
from pend_storage.pend import AdminLog, BlockchainEvent, KycApplication, User

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
    version = site.store.collection(User).put(user, if_version=0)
    created = BlockchainEvent(
        event_type="wallet_creation",
        status="confirmed",
        identity_hash=phone_hash,
        wallet_address=address,
        user_id=user.id,
    )
    site.store.collection(BlockchainEvent).put(created)
    return shown_user(user, version, 201)


@app.put("/users/<phone_hash>/tier")
def change_tier(phone_hash: str) -> Any:
    tier, reason = members("tier", "reason")
    user, version = user_of(site.store, phone_hash)
    user = replace(user, tier=tier, updated_at=datetime.now(UTC))
    version = site.store.collection(User).put(
        user, if_version=wanted_version() or version
    )
    changed = {"identityHash": phone_hash, "tier": tier, "reason": reason}
    entry = AdminLog(action="UPDATE_USER_TIER", admin_id=admin(), new_values=changed)
    site.store.collection(AdminLog).put(entry)
    return shown_user(user, version)


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
    found = site.store.collection(KycApplication).get_many(keys)
    if len(found) < len(keys):
        abort(404, "there is no such application")
    at = datetime.now(UTC)
    site.store.collection(KycApplication).put_many(
        replace(found[key], status=status, updated_at=at, verified_by=admin())
        for key in keys
    )
    site.store.collection(AdminLog).put_many(
        kyc_entry(found[key], status) for key in keys
    )
    return {"changed": len(keys)}


def kyc_entry(application: KycApplication, status: str) -> AdminLog:
    who, what = {"admin": admin()}, {"status": status}
    changed = {"identityHash": application.phone_hash, **what, **who}
    return AdminLog(action="UPDATE_KYC_STATUS", admin_id=admin(), new_values=changed)


if __name__ == "__main__":
    serve(app)
