"""Legacy files of the chain explorer, one function for each file.

The documents define the shape of the transaction log. Of the other files they name the
purpose, the size and the intended columns; those shapes are an interpretation.
"""

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
from pend_storage.sample_data.events import event
from pend_storage.sample_data.node_json import Json, Record
from pend_storage.sample_data.world import World, checksum_case, iso

TRANSACTIONS: Final = "explorer-data/transactions-log.json"
PERSISTENT: Final = "explorer-data/persistent-transactions.json"
DIRECTORY: Final = "explorer-data/wallets-directory.json"
LIVE_STATS: Final = "explorer-data/live-stats.json"
HISTORICAL: Final = "explorer-data/enhanced-historical-data.json"
BACKUP: Final = "explorer-data/data-backup.json"
CHAIN: Final = "explorer-data/full-chain-history.json"
IDENTITIES: Final = "explorer-data/identity-map.json"

_MOST_BLOCKS: Final = 5_000
"""The documented file was too small for all blocks: it holds the recent ones."""
_WEI: Final = 10**18


# --- transactions-log.json: newest first


def _log(world: World, rng: Random) -> Iterator[Entry]:
    for number in range(world.events, 0, -1):
        yield Entry(event(world, rng, number))


# --- persistent-transactions.json: newest events, as the data collector saved them


def _persistent(world: World, rng: Random, number: int) -> Record:
    nth = world.events - number
    return {
        "hash": world.transaction(nth),
        "blockNumber": world.block(nth),
        "from": world.wallet(int(rng.random() * world.users)),
        "to": world.contract(int(rng.random() * world.assets)),
        "value": str((1 + int(rng.random() * 900)) * _WEI),
        "timestamp": world.moment(nth) // 1000,
        "status": 1,
    }


# --- wallets-directory.json


def _directory(world: World, rng: Random, user: int) -> Record:
    born = world.birth(user)
    known = user % 6 == 0  # 20 of 109 wallets had a phone number
    egp = int(rng.random() * 5_000)
    return {
        "identityHash": world.identity(user),
        "address": checksum_case(world.wallet(user)),
        "phoneHash": world.identity(user),
        "maskedPhone": world.masked_phone(user) if known else None,
        "phoneNumber": world.phone(user) if known else None,
        "realPhoneNumber": known,
        "createdAt": world.time(born),
        "createdBlock": world.block(born),
        "creationTxHash": world.transaction(born),
        "egpBalance": f"{egp}.0",
        "hvtBalance": f"{int(rng.random() * 200)}.0",
        "balance": f"{egp}.0",
        "ethBalance": "0.1",
        "transactionCount": int(rng.random() * 30),
        "lastUpdated": world.time(world.events),
    }


# --- live-stats.json: one member a figure


def _live_stats(world: World, rng: Random) -> Iterator[Entry]:
    figures: Record = {
        "blockHeight": world.block(world.events),
        "totalWallets": world.users,
        "totalTransactions": world.events,
        "poolTVL": "95170.00004",
        "nav": "1.3",
        "activeInvestors": world.users // 9,
        "chainId": 7777,
        "averageBlockTime": 2.25,
        "isSyncing": False,
        "lastError": None,
        "lastUpdated": world.time(world.events),
        "types": ["egp_minted", "harvest_invest", "consent_signature"],
    }
    for name, figure in figures.items():
        yield Entry(figure, name)
    for asset in range(world.assets):
        pool: Json = {
            "tvl": f"{rng.random() * 90_000:.5f}",
            "participants": int(rng.random() * 60),
        }
        yield Entry(pool, f"pool:{world.asset_id(asset)}")


# --- enhanced-historical-data.json: day to figures


def _days(world: World) -> int:
    return min(1_000, 30 + world.users // 10)


def _date(world: World, number: int) -> str:
    back = (_days(world) - number) * 86_400_000
    return iso(world.moment(world.events) - back)[:10]


def _day(world: World, rng: Random, number: int) -> Record:
    return {
        "transactions": int(rng.random() * 100),
        "newWallets": int(rng.random() * 5),
        "volume": f"{rng.random() * 40_000:.2f}",
        "block": world.block(world.events) - 340 * (_days(world) - number),
    }


# --- data-backup.json: analytics as they were, by the time they were saved


def _backup(world: World, rng: Random, number: int) -> Record:
    return {
        "savedAt": world.time(world.events - number),
        "analytics": {
            "total": max(0, world.events - number),
            "last24h": int(rng.random() * 100),
            "types": ["egp_minted", "harvest_invest"],
        },
    }


# --- full-chain-history.json: the newest blocks with their transactions


def _block(world: World, rng: Random, number: int) -> Record:
    height = world.block(world.events) - number
    seconds = world.moment(world.events) // 1000 - 250 * number
    transactions: list[Json] = [
        _block_transaction(world, rng, height, index)
        for index in range(int(rng.random() * 3))
    ]
    return {
        "number": height,
        "hash": world.hash("block", height),
        "parentHash": world.hash("block", height - 1),
        "timestamp": seconds,
        "transactionCount": len(transactions),
        "gasUsed": str(21_000 * len(transactions)),
        "gasLimit": "30000000",
        "baseFeePerGas": "7",
        "size": 600 + int(rng.random() * 2_000),
        "miner": world.address("miner", 0),
        "extraData": "0x",
        "transactions": transactions,
    }


def _block_transaction(world: World, rng: Random, height: int, index: int) -> Record:
    return {
        "hash": world.hash("chain", f"{height}.{index}"),
        "index": index,
        "from": world.wallet(int(rng.random() * world.users)),
        "to": world.contract(int(rng.random() * world.assets)),
        "value": str(int(rng.random() * 900) * _WEI),
        "gas": 21_000,
        "input": "0x",
        "nonce": int(rng.random() * 200),
        "status": 1,
    }


# --- identity-map.json: identity hash to wallet; every fourth user


def _identity(world: World, _: Random, number: int) -> Json:
    user = 4 * number
    return {
        "walletAddress": checksum_case(world.wallet(user)),
        "phoneNumber": world.masked_phone(user),
        "registeredAt": world.moment(world.birth(user)) // 1000,
        "verified": world.tier(user) > 0,
        "region": "EG",
    }


EXPLORER_FILES: Final = (
    LegacyFile(TRANSACTIONS, Frame.list(), lambda w: w.events, _log),
    LegacyFile(
        PERSISTENT,
        Frame.list(),
        *listed(lambda w: min(w.users // 9, w.events), _persistent),
    ),
    LegacyFile(DIRECTORY, Frame.list(), *listed(lambda w: w.users, _directory)),
    LegacyFile(LIVE_STATS, Frame.map(), lambda w: 12 + w.assets, _live_stats),
    LegacyFile(
        HISTORICAL,
        Frame.map(),
        *mapped(_days, _date, _day),
    ),
    LegacyFile(
        BACKUP,
        Frame.map(),
        *mapped(_days, lambda _, n: f"backup-{n + 1}", _backup),
    ),
    LegacyFile(
        CHAIN,
        Frame.wrapped("blocks"),
        *listed(lambda w: min(_MOST_BLOCKS, 2 * w.users), _block),
    ),
    LegacyFile(
        IDENTITIES,
        Frame.map(),
        *mapped(lambda w: -(-w.users // 4), lambda w, n: w.identity(4 * n), _identity),
    ),
)
