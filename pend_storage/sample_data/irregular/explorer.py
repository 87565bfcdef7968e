"""Irregular records of the explorer's files."""

from collections.abc import Iterator
from typing import Final

from pend_storage.sample_data.explorer_files import (
    BACKUP,
    CHAIN,
    DIRECTORY,
    HISTORICAL,
    IDENTITIES,
    LIVE_STATS,
    PERSISTENT,
    TRANSACTIONS,
)
from pend_storage.sample_data.irregular.anywhere import M, Q, anywhere
from pend_storage.sample_data.irregular.changes import (
    Irregularity,
    bare,
    become,
    both,
    drop,
    fresh,
    merge,
    put,
    raw,
    rekey,
    rename,
    rows,
    twin,
    upper,
)
from pend_storage.sample_data.irregular.spellings import (
    amounts,
    hashes,
    phones,
    times,
    words,
)
from pend_storage.sample_data.node_json import Json

_GHOST: Final = "0x" + "0" * 40


def transactions() -> Iterator[Irregularity]:
    """Yield the irregularities of ``explorer-data/transactions-log.json``."""
    short = "transactions-log"
    yield from _identities(short)
    yield from _kinds(short)
    yield from _blocks_and_consents(short)
    for path in (
        "identityHash",
        "walletAddress",
        "senderWalletAddress",
        "txHash",
        "contractAddress",
    ):
        yield from hashes(short, TRANSACTIONS, path)
    yield from amounts(short, TRANSACTIONS, "amount")
    yield from phones(short, TRANSACTIONS, "phoneNumber")
    yield from words(
        short,
        TRANSACTIONS,
        "status",
        *("Invested", "Successful", "Rejected", "approved", "mined", ""),
    )
    yield from times(short, TRANSACTIONS, "timestamp", required=True)
    yield from anywhere(short, TRANSACTIONS, free="metadata", typed=True)


def _identities(short: str) -> Iterator[Irregularity]:
    return rows(
        short,
        TRANSACTIONS,
        ("id-null", M, "the id is null", put("id", None)),
        ("id-missing", M, "there is no id", drop("id")),
        ("id-repeated", M, "the id of the first entry again", put("id", 1)),
        ("id-text", M, "the id is a text", put("id", "tx-17")),
        ("id-large", M, "the id is above 64 bits", put("id", 2**70)),
        (
            "equal-entry",
            M,
            "an entry equal to one further up",
            twin(lambda entry, _: entry),
        ),
        (
            "hash-repeated",
            M,
            "another entry about the same transaction",
            twin(put("subType", "retry")),
        ),
        (
            "unknown-user",
            M,
            "an identity and a wallet that no file knows",
            both(fresh("identityHash"), fresh("walletAddress", what="address")),
        ),
    )


def _kinds(short: str) -> Iterator[Irregularity]:
    return rows(
        short,
        TRANSACTIONS,
        ("type-unknown", M, "a type of no document", put("type", "staking_reward")),
        ("type-empty", M, "the type is an empty text", put("type", "")),
        ("type-null", Q, "the type is null", put("type", None)),
        ("type-missing", Q, "there is no type", drop("type")),
        ("type-with-nul", Q, "the type has an escaped NUL", put("type", "a\x00b")),
        ("sub-type-null", M, "the subType is null", put("subType", None)),
        ("sub-type-empty", M, "the subType is an empty text", put("subType", "")),
        (
            "unknown-pool",
            M,
            "an investment in a pool that is not on offer",
            merge(type="harvest_invest", poolId="old-pool", amount="100"),
        ),
        (
            "unknown-opportunity",
            M,
            "an investment in a contract that is not on offer",
            merge(
                type="opportunity_investment",
                opportunityId="gone",
                contractAddress=_GHOST,
                amount="100",
            ),
        ),
        (
            "investment-without-amount",
            M,
            "an investment that does not tell its amount",
            both(drop("amount"), merge(type="harvest_invest")),
        ),
        (
            "token-history-shape",
            M,
            "members named as in the token history",
            both(put("token", "EGP"), rename(txHash="hash")),
        ),
        ("empty-record", Q, "an object without members", become({})),
    )


def _blocks_and_consents(short: str) -> Iterator[Irregularity]:
    values: dict[str, tuple[str, Json]] = {
        "block-text": ("blockNumber", "44123"),
        "block-hex": ("blockNumber", "0xac5b"),
        "block-null": ("blockNumber", None),
        "block-negative": ("blockNumber", -1),
        "tier-five": ("consentTier", 5),
        "tier-text": ("consentTier", "3"),
        "tier-too-high": ("consentTier", 9),
        "level-unknown": ("consentLevel", "gold"),
        "biometric-text": ("biometricUsed", "yes"),
        "location-null": ("location", None),
        "currency-long": ("currency", "EGYPTIAN POUNDS"),
        "payment-unknown": ("paymentMethod", "cash on delivery"),
        "metadata-null": ("metadata", None),
        "metadata-list": ("metadata", ["consent"]),
        "metadata-text": ("metadata", "{}"),
        "metadata-empty": ("metadata", {}),
        "tags-null": ("metadata.tags", None),
        "tags-empty": ("metadata.tags", []),
        "trust-above-hundred": ("metadata.trustScore", 120),
        "chain-id": ("chainId", 1337),
    }
    for slug, (path, value) in values.items():
        row = (slug, M, f"{path} is {value!r}", put(path, value))
        yield from rows(short, TRANSACTIONS, row)
    yield from rows(
        short,
        TRANSACTIONS,
        ("block-fraction", M, "half a block number", raw("blockNumber", "44123.5")),
        ("block-float", M, "a block number with a zero", raw("blockNumber", "44123.0")),
        ("block-large", M, "a block above 64 bits", raw("blockNumber", "9" * 25)),
    )


def persistent() -> Iterator[Irregularity]:
    """Yield the irregularities of ``explorer-data/persistent-transactions.json``."""
    short = "persistent-transactions"
    yield from rows(
        short,
        PERSISTENT,
        ("value-number", M, "wei as a number", raw("value", "5000000000000000000000")),
        ("value-hex", M, "wei in hex", put("value", "0x10f0cf064dd59200000")),
        ("value-ether", M, "ether with decimals", put("value", "0.1")),
        ("to-null", M, "a contract was created", put("to", None)),
        ("equal-entry", M, "an entry equal to an earlier one", twin(lambda e, _: e)),
        ("block-hex", M, "the block in hex", put("blockNumber", "0xac5b")),
        (
            "iso-time",
            M,
            "an ISO time, not seconds",
            put("timestamp", "2025-06-19T07:58:56.380Z"),
        ),
        ("logs", M, "the logs of the transaction", put("logs", [{"topics": ["0x01"]}])),
    )
    yield from hashes(short, PERSISTENT, "hash")
    yield from hashes(short, PERSISTENT, "from")
    yield from anywhere(short, PERSISTENT, typed=True)


def directory() -> Iterator[Irregularity]:
    """Yield the irregularities of ``explorer-data/wallets-directory.json``."""
    short = "wallets-directory"
    for path in ("identityHash", "address", "creationTxHash"):
        yield from hashes(short, DIRECTORY, path)
    yield from rows(
        short,
        DIRECTORY,
        (
            "unknown-user",
            M,
            "a wallet that wallet-db.json lacks",
            both(fresh("identityHash"), fresh("address", what="address")),
        ),
        (
            "nested-balances",
            M,
            "balances in an object",
            put("balances", {"egp": "100.00", "hvt": "50.00", "eth": "0.1"}),
        ),
        (
            "chain-identity",
            M,
            "what the identity contract holds",
            put("identity", {"region": "GLOBAL", "verified": True}),
        ),
        ("block-text", M, "a block as text", put("createdBlock", "44123")),
        ("count-missing", M, "no transactionCount", drop("transactionCount")),
        ("real-phone-text", M, "a word, not true", put("realPhoneNumber", "true")),
    )
    yield from phones(short, DIRECTORY, "maskedPhone")
    yield from phones(short, DIRECTORY, "phoneNumber")
    yield from amounts(short, DIRECTORY, "egpBalance")
    yield from times(short, DIRECTORY, "createdAt")
    yield from anywhere(short, DIRECTORY)


def others() -> Iterator[Irregularity]:
    """Yield the irregularities of the files without a table of their own."""
    yield from rows(
        "live-stats",
        LIVE_STATS,
        ("null-figure", M, "a figure that is null", become(None)),
        ("text-figure", M, "a figure as text", become("1,250")),
        ("large-figure", M, "a figure above 64 bits", become(10**30)),
        ("list-figure", M, "a list instead of a figure", become([1, "a", None])),
    )
    yield from rows(
        "identity-map",
        IDENTITIES,
        ("key-without-0x", M, "the hash has no 0x", rekey(bare)),
        ("key-upper-case", M, "the hash has capital letters", rekey(upper)),
        ("address-value", M, "an address instead of an object", become(_GHOST)),
        ("phone-null", M, "the phone number is null", put("phoneNumber", None)),
    )
    yield from rows(
        "full-chain-history",
        CHAIN,
        ("no-transactions", M, "a block without its list", drop("transactions")),
        ("hex-time", M, "a time in hex", put("timestamp", "0x685bd200")),
        ("value-number", M, "gas as a number above 64 bits", raw("gasUsed", "9" * 25)),
        ("null-block", M, "null instead of a block", become(None)),
        ("block-twice", M, "the same block again", twin(lambda entry, _: entry)),
    )
    for short, file in (
        ("live-stats", LIVE_STATS),
        ("identity-map", IDENTITIES),
        ("full-chain-history", CHAIN),
        ("enhanced-historical-data", HISTORICAL),
        ("data-backup", BACKUP),
    ):
        yield from anywhere(short, file)
