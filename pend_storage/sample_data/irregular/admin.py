"""Irregular records of the files that the admin panel writes."""

from collections.abc import Iterator

from pend_storage.sample_data.irregular.anywhere import M, Q, anywhere
from pend_storage.sample_data.irregular.changes import (
    Irregularity,
    become,
    both,
    drop,
    edit,
    fresh,
    fresh_number,
    merge,
    put,
    raw,
    rename,
    rows,
    twin,
    upper,
)
from pend_storage.sample_data.irregular.spellings import amounts, hashes, times, words
from pend_storage.sample_data.server_files import ADMIN_LOGS, OPPORTUNITIES
from pend_storage.sample_data.world import checksum_case


def opportunities() -> Iterator[Irregularity]:
    """Yield the irregularities of ``admin-opportunities.json``."""
    short = "admin-opportunities"
    yield from _identities(short)
    yield from _texts(short)
    yield from _figures(short)
    yield from words(
        short,
        OPPORTUNITIES,
        "status",
        *("Active", "Paused", "Completed", "inactive", "awaiting_approval", ""),
    )
    for path in ("tokenPrice", "minimumInvestment", "totalInvested", "softCap"):
        yield from amounts(short, OPPORTUNITIES, path)
    for path in ("createdAt", "deadline"):
        yield from times(short, OPPORTUNITIES, path)
    yield from anywhere(short, OPPORTUNITIES, free="assetManagerProfile", typed=True)


def _identities(short: str) -> Iterator[Irregularity]:
    return rows(
        short,
        OPPORTUNITIES,
        ("id-null", M, "the id is null", put("id", None)),
        ("id-missing", M, "there is no id", drop("id")),
        ("id-number", M, "the id is a number", fresh_number("id")),
        (
            "id-twice",
            Q,
            "the id of an earlier one with another contract",
            twin(fresh("contractAddress", what="address")),
        ),
        (
            "draft-without-contract",
            M,
            "a draft, not yet deployed",
            both(drop("contractAddress"), put("status", "draft")),
        ),
        ("contract-null", M, "the contract is null", put("contractAddress", None)),
        (
            "contract-mixed-case",
            M,
            "the contract is spelled like a checksum",
            edit("contractAddress", checksum_case),
        ),
        (
            "contract-upper-case",
            M,
            "the contract has capital letters",
            edit("contractAddress", upper),
        ),
        ("contract-twice", Q, "the contract of an earlier one", twin(fresh("id"))),
        (
            "contract-twice-other-case",
            Q,
            "the same, in other letters",
            twin(both(fresh("id"), edit("contractAddress", upper))),
        ),
        ("empty-record", Q, "an object without members", become({})),
    )


def _texts(short: str) -> Iterator[Irregularity]:
    for path in ("description", "category", "location"):
        yield from words(short, OPPORTUNITIES, path, "")
    for option in ("Investment", "Interest-only", "solo", "bundle"):
        slug = f"type-{option.lower()}"
        words_ = f'type is "{option}"'
        yield from rows(short, OPPORTUNITIES, (slug, M, words_, put("type", option)))
    yield from rows(
        short,
        OPPORTUNITIES,
        ("title-with-nul", Q, "a title with an escaped NUL", put("title", "a\x00b")),
        (
            "title-with-surrogate",
            Q,
            "a title with half a character",
            put("title", "\udc00"),
        ),
        ("title-null", Q, "the title is null", put("title", None)),
        ("title-missing", Q, "there is no title", drop("title")),
        (
            "interface-names",
            M,
            "members named as in the wallet's interface",
            rename(
                minimumInvestment="minInvestment",
                expectedROI="roiRange",
                lockupPeriod="redemptionPeriod",
                investorCount="investorsCount",
                totalInvested="currentInvestment",
            ),
        ),
        (
            "agreement",
            M,
            "members of the form that nothing reads",
            merge(agreementUrl="/a.pdf", tags=["new"], image="/a.jpg", impact=""),
        ),
    )


def _figures(short: str) -> Iterator[Irregularity]:
    texts = {
        "roi-range": ("expectedROI", "9-13%"),
        "roi-percent": ("expectedROI", "12%"),
        "roi-text": ("expectedROI", "12.5"),
        "roi-empty": ("expectedROI", ""),
        "lockup-months": ("lockupPeriod", "18 months"),
        "lockup-text": ("lockupPeriod", "540"),
        "supply-wei": ("maxSupply", "100000000000000000000"),
        "supply-fraction-text": ("maxSupply", "10.5"),
        "supply-commas": ("maxSupply", "1,000,000"),
        "investors-text": ("investorCount", "12"),
        "tier-text": ("minTierRequired", "2"),
        "symbol-long": ("tokenSymbol", "AVERYLONGSYMBOL"),
    }
    numbers = {
        "roi-huge": ("expectedROI", "1000000.5"),
        "roi-five-decimals": ("expectedROI", "12.34567"),
        "lockup-fraction": ("lockupPeriod", "30.5"),
        "lockup-huge": ("lockupPeriod", "99999999999"),
        "supply-uint256": ("maxSupply", str(2**256 - 1)),
        "supply-eighty-digits": ("maxSupply", "9" * 80),
        "deadline-zero": ("deadline", "0"),
        "deadline-seconds": ("deadline", "1767225600"),
        "tier-too-high": ("minTierRequired", "7"),
        "investors-fraction": ("investorCount", "2.5"),
    }
    for slug, (path, text) in texts.items():
        row = (slug, M, f'{path} is "{text}"', put(path, text))
        yield from rows(short, OPPORTUNITIES, row)
    for slug, (path, text) in numbers.items():
        row = (slug, M, f"{path} is the number {text[:24]}", raw(path, text))
        yield from rows(short, OPPORTUNITIES, row)
    for path in ("expectedROI", "lockupPeriod", "investorCount", "interestedCount"):
        absent = (f"{path}-missing", M, f"{path} is not there", drop(path))
        yield from rows(short, OPPORTUNITIES, absent)


def admin_logs() -> Iterator[Irregularity]:
    """Yield the irregularities of ``admin-logs.json``."""
    short = "admin-logs"
    yield from _addresses(short)
    yield from rows(
        short,
        ADMIN_LOGS,
        ("equal-entry", M, "an entry equal to an earlier one", twin(lambda e, _: e)),
        ("data-missing", M, "there is no data", drop("data")),
        ("data-null", M, "data is null", put("data", None)),
        ("data-empty", M, "data is an empty object", put("data", {})),
        ("data-text", M, "data is a text", put("data", "logged in")),
        ("resource-number", M, "data.id is a number", put("data.id", 7)),
        ("resource-null", M, "data.id is null", put("data.id", None)),
        ("action-empty", M, "the action is an empty text", put("action", "")),
        ("action-unknown", M, "an action of no document", put("action", "MIGRATE_ALL")),
        ("action-missing", Q, "there is no action", drop("action")),
        ("action-null", Q, "the action is null", put("action", None)),
        ("action-with-nul", Q, "the action has an escaped NUL", put("action", "A\x00")),
        ("empty-record", Q, "an object without members", become({})),
    )
    yield from hashes(short, ADMIN_LOGS, "data.contractAddress")
    yield from times(short, ADMIN_LOGS, "timestamp", required=True)
    yield from anywhere(short, ADMIN_LOGS, free="data", typed=True)


def _addresses(short: str) -> Iterator[Irregularity]:
    addresses = {
        "list": "203.0.113.9, 198.51.100.4",
        "word": "unknown",
        "mapped": "::ffff:192.0.2.7",
        "version-six": "2001:db8::1",
        "zone": "fe80::1%eth0",
        "port": "192.0.2.7:51034",
        "network": "192.0.2.0/24",
        "empty": "",
        "local": "localhost",
    }
    for slug, text in addresses.items():
        row = (f"ip-{slug}", M, f'data.ip is "{text}"', put("data.ip", text))
        yield from rows(short, ADMIN_LOGS, row)
    yield from rows(
        short,
        ADMIN_LOGS,
        ("ip-null", M, "data.ip is null", put("data.ip", None)),
        ("ip-number", M, "data.ip is a number", put("data.ip", 3_221_225_991)),
    )
