"""Irregular records of the files that the server itself writes."""

from collections.abc import Iterator
from typing import Final

from pend_storage.sample_data.irregular.anywhere import M, Q, anywhere
from pend_storage.sample_data.irregular.changes import (
    Irregularity,
    bare,
    become,
    both,
    drop,
    fresh_address,
    fresh_key,
    lower,
    merge,
    padded,
    put,
    raw,
    rekey,
    respell,
    rows,
    starred,
    twin,
    upper,
    upper_all,
)
from pend_storage.sample_data.irregular.spellings import hashes, phones, times, words
from pend_storage.sample_data.node_json import Json
from pend_storage.sample_data.server_files import (
    CONSENTS,
    CREDENTIALS,
    KYC,
    POOL_TIERS,
    SERVER_LOGS,
    WALLETS,
)
from pend_storage.sample_data.world import checksum_case


def _phone_like(key: str) -> str:
    return "+2010" + "".join(letter for letter in key if letter.isdigit())[1:9]


_SPELLED_KEYS: Final = (
    ("key-without-0x", M, "the hash has no 0x", rekey(bare)),
    ("key-upper-case", M, "the hash has capital letters", rekey(upper)),
    ("key-upper-case-0x", M, "the same, in 0X too", rekey(upper_all)),
    ("key-mixed-case", M, "the hash has letters of both kinds", rekey(checksum_case)),
)
_BAD_KEYS: Final = (
    ("key-not-hex", Q, "the name has letters beyond f", rekey(lambda k: "0xz" + k[3:])),
    ("key-too-short", Q, "the hash lost its last digit", rekey(lambda k: k[:-1])),
    ("key-starred", Q, "the hash is hidden as in a log", rekey(starred)),
    ("key-phone", Q, "a phone number, not its hash", rekey(_phone_like)),
    ("key-with-nul", Q, "the name has an escaped NUL", rekey(lambda k: k + "\x00")),
    (
        "key-with-surrogate",
        Q,
        "the name has half a character",
        rekey(lambda k: k + "\ud800"),
    ),
)


def wallets() -> Iterator[Irregularity]:
    """Yield the irregularities of ``wallet-db.json``."""
    short = "wallet-db"
    yield from rows(short, WALLETS, *_SPELLED_KEYS, *_BAD_KEYS)
    yield from _wallet_values(short)
    yield from _wallet_collisions(short)
    yield from anywhere(short, WALLETS, typed=True)


def _wallet_values(short: str) -> Iterator[Irregularity]:
    created: Json = "2025-06-19T07:58:56.380Z"
    return rows(
        short,
        WALLETS,
        ("key-padded", M, "there are spaces around the hash", rekey(padded)),
        ("address-lower-case", M, "the address has small letters", respell(lower)),
        ("address-upper-case", M, "the address has capital letters", respell(upper)),
        ("address-without-0x", M, "the address has no 0x", respell(bare)),
        (
            "address-padded",
            M,
            "there are spaces around the address",
            respell(padded),
        ),
        (
            "object-value",
            M,
            "an object with the address and more",
            merge(createdAt=created, source="import"),
        ),
        (
            "object-without-address",
            Q,
            "an object without the address",
            become({"createdAt": created}),
        ),
        ("address-empty", Q, "the address is an empty text", become("")),
        ("address-too-short", Q, "the address lost a digit", respell(lambda a: a[:-1])),
        (
            "address-not-hex",
            Q,
            "the address has letters beyond f",
            become("0x" + "z" * 40),
        ),
    )


def _wallet_collisions(short: str) -> Iterator[Irregularity]:
    return rows(
        short,
        WALLETS,
        (
            "key-equal-without-0x",
            Q,
            "a second name that differs from an earlier one by its 0x only",
            twin(both(rekey(bare), fresh_address)),
        ),
        (
            "key-equal-other-case",
            Q,
            "a second name that differs from an earlier one by its capitals only",
            twin(both(rekey(upper), fresh_address)),
        ),
        (
            "key-twice",
            Q,
            "the same name again, which a JSON parser would let win",
            twin(fresh_address),
        ),
        ("address-twice", Q, "an address under a second name", twin(fresh_key)),
        (
            "address-twice-other-case",
            Q,
            "the same, in other letters",
            twin(both(fresh_key, respell(lower))),
        ),
    )


def kyc() -> Iterator[Irregularity]:
    """Yield the irregularities of ``uploads/kyc/metadata.json``."""
    short = "kyc"
    yield from rows(short, KYC, *_SPELLED_KEYS, *_BAD_KEYS)
    yield from rows(
        short,
        KYC,
        ("key-of-unknown-user", M, "no user has this hash", fresh_key),
        (
            "key-equal-other-case",
            Q,
            "a second name that differs from an earlier one by its capitals only",
            twin(rekey(upper)),
        ),
        ("key-twice", Q, "the same name again", twin(put("lastStatus", "again"))),
        ("reason-empty", M, "an empty reason", put("rejectionReason", "")),
        (
            "reason-with-nul",
            Q,
            "a reason with an escaped NUL",
            put("rejectionReason", "a\x00b"),
        ),
        ("verified-null", M, "verifiedAt is null", put("verifiedAt", None)),
    )
    yield from _kyc_documents(short)
    yield from words(
        short,
        KYC,
        "verificationStatus",
        *("pending", "approved", "approve", "reject", "resubmitted"),
        *("Pending", "Under Review", "Verified", "Rejected", ""),
    )
    yield from times(short, KYC, "lastUpdated", required=True)
    yield from times(short, KYC, "documents.id.uploadedAt")
    yield from anywhere(short, KYC, free="documents.id", typed=True)


def _kyc_documents(short: str) -> Iterator[Irregularity]:
    paper: Json = {"id": "x.pdf", "originalName": "هوية.pdf", "size": 10_485_760}
    for kind in (
        *("passport", "driver_license", "income", "bank"),
        *("id_front", "id_back", "selfie", "national ID"),
    ):
        slug = kind.replace(" ", "-").lower()
        words_ = f"a document of the kind {kind}"
        change = put(f"documents.{kind}", paper)
        yield from rows(short, KYC, (f"document-{slug}", M, words_, change))
    yield from rows(
        short,
        KYC,
        ("documents-missing", M, "there are no documents", drop("documents")),
        ("documents-empty", M, "the map of documents is empty", put("documents", {})),
        ("documents-null", M, "documents is null", put("documents", None)),
        ("documents-list", M, "documents is a list", put("documents", [paper])),
        ("size-text", M, "a size as text", put("documents.id.size", "1.2 MB")),
        (
            "document-status",
            M,
            "each document has its own status",
            put("documents.id.status", "pending"),
        ),
    )


def consents() -> Iterator[Irregularity]:
    """Yield the irregularities of ``consents-db.json``."""
    short = "consents-db"
    yield from rows(short, CONSENTS, *_SPELLED_KEYS)
    yield from rows(
        short,
        CONSENTS,
        ("expiry-text", M, "expiry is a time as text", put("expiry", "2025-07-01")),
        ("used-text", M, "used is a word", put("used", "yes")),
        (
            "list-value",
            M,
            "several consents under one name",
            become([{"used": True}, {}]),
        ),
        ("null-value", M, "null instead of a consent", become(None)),
        (
            "otp-shape",
            M,
            "a consent as the relayer sends it",
            become({"phone": "+201000000042", "otpHash": "0x00"}),
        ),
        (
            "terms-shape",
            M,
            "an acceptance of the terms",
            merge(type="terms_acceptance", subType="wallet_creation_terms"),
        ),
    )
    yield from times(short, CONSENTS, "timestamp")
    yield from anywhere(short, CONSENTS, free="metadata")


def credentials() -> Iterator[Irregularity]:
    """Yield the irregularities of ``credentials-db.json``."""
    short = "credentials-db"
    yield from rows(short, CREDENTIALS, *_SPELLED_KEYS)
    yield from rows(
        short,
        CREDENTIALS,
        (
            "counter-text",
            M,
            "the counter is a text",
            put("credential.counter", "17"),
        ),
        (
            "counter-large",
            M,
            "the counter is large",
            raw("credential.counter", "4294967296"),
        ),
        ("list-value", M, "several credentials of one user", become([{"counter": 1}])),
        (
            "base64-key",
            M,
            "the key is base64 with padding",
            put("credential.publicKey", "pQECAyYgASFY+/8="),
        ),
    )
    yield from anywhere(short, CREDENTIALS, free="credential")


def server_logs() -> Iterator[Irregularity]:
    """Yield the irregularities of ``server-logs.json``."""
    short = "server-logs"
    yield from rows(
        short,
        SERVER_LOGS,
        ("data-missing", M, "there is no data", drop("data")),
        ("data-null", M, "data is null", put("data", None)),
        ("data-text", M, "data is a text", put("data", "timeout")),
        ("type-missing", M, "there is no type", drop("type")),
        ("null-entry", M, "null instead of an entry", become(None)),
        ("text-entry", M, "a line of text instead of an entry", become("restart")),
    )
    yield from words(
        short, SERVER_LOGS, "type", "FRA_AUDIT", "SECURITY_ALERT", "heartbeat"
    )
    yield from phones(short, SERVER_LOGS, "data.phoneNumber")
    yield from hashes(short, SERVER_LOGS, "data.identityHash")
    yield from times(short, SERVER_LOGS, "timestamp")
    yield from anywhere(short, SERVER_LOGS, free="data")


def pool_tiers() -> Iterator[Irregularity]:
    """Yield the irregularities of ``admin-pool-tiers.json``."""
    short = "admin-pool-tiers"
    yield from rows(
        short,
        POOL_TIERS,
        ("tier-zero", M, "tier 0", become(0)),
        ("tier-text", M, "a tier as text", become("2")),
        ("tier-null", M, "a tier that is null", become(None)),
        ("tier-fraction", M, "half a tier", become(1.5)),
        ("tier-too-high", M, "a tier above all scales", become(9)),
        ("tier-negative", M, "a tier below zero", become(-1)),
        ("unknown-pool", M, "a pool that is not on offer", rekey(lambda k: "old-" + k)),
        ("pool-title-case", M, "a pool in capitals", rekey(str.upper)),
    )
    yield from anywhere(short, POOL_TIERS)
