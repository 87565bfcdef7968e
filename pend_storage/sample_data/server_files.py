"""Legacy files of the server and its admin panel, one function for each file."""

from collections.abc import Iterator
from random import Random
from typing import Final

from pend_storage.sample_data.entries import (
    Entry,
    Frame,
    LegacyFile,
    listed,
    mapped,
)
from pend_storage.sample_data.node_json import Json, Record
from pend_storage.sample_data.world import World, checksum_case, iso

WALLETS: Final = "wallet-db.json"
OPPORTUNITIES: Final = "admin-opportunities.json"
ADMIN_LOGS: Final = "admin-logs.json"
CONSENTS: Final = "consents-db.json"
CREDENTIALS: Final = "credentials-db.json"
SERVER_LOGS: Final = "server-logs.json"
KYC: Final = "uploads/kyc/metadata.json"
POOL_TIERS: Final = "admin-pool-tiers.json"

_MOST_SERVER_LOGS: Final = 500
"""Ring buffer: the server keeps no more entries."""
_DAY: Final = 86_400_000
_CATEGORIES: Final = (
    "Agriculture",
    "Renewable Energy",
    "Precious Metals",
    "Real Estate",
    "Agriculture",
    "Logistics",
    "Healthcare",
    "Agriculture",
)
_OFFICE: Final = "192.0.2."
"""Addresses reserved for documentation."""


def _event_near(world: World, number: int, count: int) -> int:
    """Return the event near an entry: `count` entries spread over the server's life."""
    return world.events - world.span * (count - 1 - number) // max(1, count)


# --- wallet-db.json: identity hash to wallet address


def _wallet(world: World, _: Random, user: int) -> Json:
    return checksum_case(world.wallet(user))


# --- admin-opportunities.json


def _opportunity(world: World, rng: Random, asset: int) -> Record:
    born = world.moment(_event_near(world, asset, world.assets))
    slug = world.asset_id(asset)
    investors = int(rng.random() * 80)
    return {
        "id": slug,
        "contractAddress": world.contract(asset),
        "type": "interest" if asset % 5 == 4 else "investment",
        "title": slug.replace("-", " ").title(),
        "description": f"An invented offer, number {asset}: every figure is made up.",
        "category": _CATEGORIES[asset % len(_CATEGORIES)],
        "status": ("active", "active", "active", "paused", "closed")[asset % 5],
        "createdAt": iso(born),
        "tokenSymbol": slug.replace("-", "")[:7].upper() + "T",
        "tokenPrice": str(10 * (1 + int(rng.random() * 100))),
        "maxSupply": str(1_000 * (1 + int(rng.random() * 500))),
        "expectedROI": 5 + int(rng.random() * 15),
        "lockupPeriod": 30 * (1 + int(rng.random() * 24)),
        "minimumInvestment": str(100 * (1 + int(rng.random() * 20))),
        "softCap": 10 * (1 + int(rng.random() * 30)),
        "deadline": iso(born + 180 * _DAY),
        "contactFormat": "email",
        "contactValue": f"{slug}@example.org",
        "totalInvested": investors * 500,
        "investorCount": investors,
        "interestedCount": investors + int(rng.random() * 40),
        "location": "Egypt",
        "jurisdiction": "Egypt",
        "spvName": f"{slug} SPV",
        "custodyType": "third-party",
        "minTierRequired": 1 + asset % 4,
        "legalDocuments": [
            {
                "name": "Prospectus",
                "type": "application/pdf",
                "size": "1.2 MB",
                "url": f"/uploads/legal/{slug}.pdf",
            }
        ],
        "assetManagerProfile": {
            "name": f"Manager {asset}",
            "title": "Asset manager",
            "verified": asset % 3 == 0,
        },
    }


# --- admin-logs.json


def _admin_log(world: World, rng: Random, number: int) -> Record:
    asset = int(rng.random() * world.assets)
    data: Record = {"ip": f"{_OFFICE}{1 + int(rng.random() * 20)}"}
    action = (
        "ADMIN_ACCESS",
        "ADMIN_ACCESS",
        "ADMIN_AUTH_FAILED",
        "CREATE_OPPORTUNITY",
        "UPDATE_OPPORTUNITY",
        "UPDATE_USER_TIER",
    )[int(rng.random() * 6)]
    if action == "CREATE_OPPORTUNITY":
        data |= {"id": world.asset_id(asset), "title": world.asset_id(asset)}
    elif action == "UPDATE_OPPORTUNITY":
        data |= {"contractAddress": world.contract(asset), "status": "active"}
    elif action == "UPDATE_USER_TIER":
        user = int(rng.random() * world.users)
        data |= {"identityHash": world.identity(user), "tier": world.tier(user)}
    return {
        "action": action,
        "timestamp": world.time(_event_near(world, number, _admin_logs(world))),
        "data": data,
    }


def _admin_logs(world: World) -> int:
    return world.users * 2 // 3


# --- uploads/kyc/metadata.json: identity hash to application; every third user


def _kyc(world: World, rng: Random, number: int) -> Record:
    user = 3 * number
    updated = world.moment(world.birth(user)) + int(rng.random() * 10 * _DAY)
    status = ("pending_review", "under_review", "verified", "verified", "rejected")[
        int(rng.random() * 5)
    ]
    record: Record = {
        "verificationStatus": status,
        "lastUpdated": iso(updated),
        "documents": {
            kind: _document(world, user, kind, updated - 60_000)
            for kind in ("id", "utility")
        },
    }
    if status == "verified":
        record["verifiedAt"] = iso(updated)
    elif status == "rejected":
        record["rejectionReason"] = "The document cannot be read"
    return record


def _document(world: World, user: int, kind: str, uploaded: int) -> Record:
    stored = f"{world.identity(user)}_{kind}_{uploaded}.jpg"
    return {
        "id": stored,
        "originalName": f"{kind}.jpg",
        "path": f"uploads/kyc/{stored}",
        "size": 20_000 + int(world.digest("size", stored)[:6], 16) % 9_000_000,
        "mimeType": "image/jpeg",
        "uploadedAt": iso(uploaded),
    }


# --- consents-db.json: identity hash to what the user consented to; every second user


def _consents(world: World, rng: Random, number: int) -> Record:
    user = 2 * number
    born = world.birth(user)
    given = world.moment(born)
    action = ("register_phone", "wallet_creation", "submit_kyc")[int(rng.random() * 3)]
    return {
        "identityHash": world.identity(user),
        "action": action,
        "actionHash": world.hash("action", action),
        "consentHash": world.hash("consent", user),
        "versionId": "1.0",
        "timestamp": iso(given),
        "expiry": given // 1000 + 30 * 86_400,
        "used": rng.random() < 0.8,
        "ipAddress": f"198.51.100.{1 + int(rng.random() * 200)}",
        "metadata": {"complianceFlags": ["FRA"], "legallyBinding": True},
    }


# --- credentials-db.json: identity hash to WebAuthn credential; 5 for 139 users


def _credential(world: World, rng: Random, number: int) -> Record:
    user = 25 * number
    return {
        "identityHash": world.identity(user),
        "credential": {
            "credentialID": world.digest("credential", user),
            "publicKey": world.digest("public key", user) * 2,
            "counter": int(rng.random() * 400),
        },
    }


# --- server-logs.json


def _server_log(world: World, rng: Random, number: int) -> Record:
    count = _server_logs(world)
    event = world.events - (count - 1 - number) * world.span // (100 * max(1, count))
    user = int(rng.random() * world.users)
    kind, data = _SERVER_EVENTS[int(rng.random() * len(_SERVER_EVENTS))]
    return {
        "timestamp": world.time(event),
        "type": kind,
        "data": {
            **data,
            "phoneNumber": world.masked_phone(user),
            "identityHash": world.identity(user)[:10] + "****",
        },
    }


_SERVER_EVENTS: Final[tuple[tuple[str, Record], ...]] = (
    ("API_CALL", {"endpoint": "/api/create-wallet", "success": True}),
    ("API_CALL", {"endpoint": "/api/token/balance", "success": True}),
    ("BLOCKCHAIN_TX", {"action": "invest_harvest_pool", "success": True}),
    ("OTP", {"action": "send", "success": True}),
    ("WEBAUTHN", {"action": "verify", "success": True}),
    ("POOL_OPERATION", {"action": "redeem", "success": True}),
    ("ERROR", {"endpoint": "/api/kyc/upload-document", "success": False}),
    ("SECURITY_PIN_ATTEMPT", {"ip": "203.0.113.9", "attemptNumber": 2}),
)


def _server_logs(world: World) -> int:
    return min(_MOST_SERVER_LOGS, 3 * world.users)


# --- admin-pool-tiers.json: pool id to the tier it asks for; 4 for 12 assets


def _pool_tiers(world: World, _: Random) -> Iterator[Entry]:
    for asset in range(_pools(world)):
        yield Entry(1 if asset == 0 else 2, world.asset_id(asset))


def _pools(world: World) -> int:
    return world.assets // 3


SERVER_FILES: Final = (
    LegacyFile(
        WALLETS, Frame.map(), *mapped(lambda w: w.users, World.identity, _wallet)
    ),
    LegacyFile(
        OPPORTUNITIES,
        Frame.wrapped("opportunities"),
        *listed(lambda w: w.assets, _opportunity),
    ),
    LegacyFile(ADMIN_LOGS, Frame.wrapped("logs"), *listed(_admin_logs, _admin_log)),
    LegacyFile(
        CONSENTS,
        Frame.map(),
        *mapped(lambda w: -(-w.users // 2), lambda w, n: w.identity(2 * n), _consents),
    ),
    LegacyFile(
        CREDENTIALS,
        Frame.map(),
        *mapped(lambda w: w.users // 25, lambda w, n: w.identity(25 * n), _credential),
    ),
    LegacyFile(SERVER_LOGS, Frame.wrapped("logs"), *listed(_server_logs, _server_log)),
    LegacyFile(
        KYC,
        Frame.map(),
        *mapped(lambda w: -(-w.users // 3), lambda w, n: w.identity(3 * n), _kyc),
    ),
    LegacyFile(POOL_TIERS, Frame.map(), _pools, _pool_tiers),
)
