"""A server on JSON files. Steps 0 and 1 are the same file, but for two lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from access import MOST_ITEMS, admin, guard, items_of, members
from flask import Flask, abort, request
from serving import serve, site

WALLETS = "wallet-db.json"
KYC = "uploads/kyc/metadata.json"
ADMIN_LOGS = "admin-logs.json"
TRANSACTIONS = "explorer-data/transactions-log.json"
STATUSES = ("pending_review", "under_review", "verified", "rejected")

app = Flask(__name__)
guard(app)


def load(name: str) -> Any:
    return site.store.legacy(name)


def save(name: str, content: Any) -> None:
    pass  # what is put into a view is written at once


@app.get("/users/<phone_hash>")
def show_user(phone_hash: str) -> Any:
    wallets = load(WALLETS)
    if phone_hash not in wallets:
        abort(404, "there is no such user")
    return {"phoneHash": phone_hash, "walletAddress": wallets[phone_hash].lower()}


@app.post("/users")
def create_wallet() -> Any:
    phone_hash, address = (
        str(m).lower() for m in members("phoneHash", "walletAddress")
    )
    if not re.fullmatch("0x[0-9a-f]{64} 0x[0-9a-f]{40}", f"{phone_hash} {address}"):
        abort(422, "phoneHash or walletAddress is malformed")
    wallets = load(WALLETS)
    if phone_hash in wallets:
        abort(409, "this phone number has a wallet already")
    wallets[phone_hash] = address
    save(WALLETS, wallets)
    log = load(TRANSACTIONS)
    entry = {"type": "wallet_creation", "timestamp": now(), "identityHash": phone_hash}
    log.insert(0, {**entry, "walletAddress": address, "status": "confirmed"})
    save(TRANSACTIONS, log)
    return {"phoneHash": phone_hash, "walletAddress": address}, 201


@app.get("/users/<phone_hash>/transactions")
def show_transactions(phone_hash: str) -> Any:
    log = load(TRANSACTIONS)
    own = [entry for entry in log if entry.get("identityHash") == phone_hash]
    names = ("type", "timestamp", "amount", "txHash", "status")
    return page([{name: entry.get(name) for name in names} for entry in own])


@app.get("/kyc/pending")
def show_kyc_queue() -> Any:
    pending = [
        {"phoneHash": phone_hash, "submittedAt": application["lastUpdated"]}
        for phone_hash, application in load(KYC).items()
        if application["verificationStatus"] == "pending_review"
    ]
    return page(sorted(pending, key=lambda item: str(item["submittedAt"])))


@app.post("/kyc/status")
def change_kyc_status() -> Any:
    hashes, status = members("phoneHashes", "status")
    hashes = items_of("phoneHashes", hashes)
    if status not in STATUSES:
        abort(422, "status must be a KYC status")
    applications = load(KYC)
    if any(str(phone_hash) not in applications for phone_hash in hashes):
        abort(404, "there is no such application")
    for phone_hash in hashes:
        changed = {"verificationStatus": status, "lastUpdated": now()}
        applications[phone_hash] = {**applications[phone_hash], **changed}
    save(KYC, applications)
    audit = load(ADMIN_LOGS)
    for phone_hash in hashes:
        data = {"identityHash": phone_hash, "status": status, "admin": admin()}
        entry = {"action": "UPDATE_KYC_STATUS", "timestamp": now(), "data": data}
        audit["logs"].append(entry)
    save(ADMIN_LOGS, audit)
    return {"changed": len(hashes)}


def page(items: list[dict[str, Any]]) -> dict[str, Any]:
    """One page of a list; its cursor is a place in the list."""
    limit, after = request.args.get("limit", "50"), request.args.get("after", "0")
    if not re.fullmatch("[0-9]{1,3} [0-9]{1,9}", f"{limit} {after}"):
        abort(400, "limit or after is malformed")
    if int(limit) > MOST_ITEMS:
        abort(400, f"limit must be a number up to {MOST_ITEMS}")
    end = int(after) + int(limit)
    rest = str(end) if end < len(items) else None
    return {"items": items[int(after) : end], "next": rest}


def now() -> str:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


if __name__ == "__main__":
    serve(app)
