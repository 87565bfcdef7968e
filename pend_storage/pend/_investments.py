"""Investments derived from blockchain events, because no legacy file holds any.

Every event about money that enters or leaves a pool or an opportunity becomes an
investment. Money that leaves has a negative amount, so that the sum over a user and an
asset is the user's holding. Keys follow from the events: deriving again changes
nothing, and several events about one transaction make one investment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pend_storage._transaction import Transaction
from pend_storage.errors import UniqueViolation
from pend_storage.pend._identity import record_id
from pend_storage.pend.records import (
    Asset,
    BlockchainEvent,
    Investment,
    User,
)
from pend_storage.query import field
from pend_storage.store import Store

__all__ = ["DerivedInvestments", "derive_investments"]

_INVEST: Final = frozenset(
    {
        "harvest_invest",
        "opportunity_investment",
        "opportunity_invest",
        "invest_opportunity",
        "invest_in_opportunity",
        "asset_investment",
    }
)
_REDEEM: Final = frozenset(
    {"harvest_redeem", "opportunity_redeem", "redeem_asset_tokens", "asset_redeem"}
)
_KINDS: Final = _INVEST | _REDEEM
_HARVEST_POOL: Final = "harvest-pool"
"""Pool of harvest events that name none."""
_STATUS: Final = {
    "confirmed": "confirmed",
    "invested": "confirmed",
    "successful": "confirmed",
    "success": "confirmed",
    "approved": "confirmed",
    "completed": "confirmed",
    "mined": "confirmed",
    "pending": "pending",
    "processing": "pending",
    "failed": "failed",
    "rejected": "failed",
    "error": "failed",
    "refunded": "refunded",
}
"""Event status in lower case to investment status; any other is ``pending``."""
_COPIED_MEMBERS: Final = ("opportunityId", "poolId", "agreementHash", "consentHash")
"""Members of an event that are copied to the investment's ``metadata``."""
_CURRENCY: Final = "EGP"
_LONGEST_CURRENCY: Final = 10
_LONGEST_METHOD: Final = 20
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedInvestments:
    """Result of :func:`derive_investments`: events by what became of them."""

    events: int = 0
    """Events about money that enters or leaves."""
    written: int = 0
    """Investments that were created."""
    completed: int = 0
    """Existing investments whose missing user or asset was filled in."""
    unchanged: int = 0
    """Existing investments that needed no change."""
    duplicates: int = 0
    """Events whose transaction and asset have an investment from another event."""
    without_amount: int = 0
    """Events without a readable amount, which make no investment."""
    without_user: int = 0
    """Created investments whose event matches no user."""
    without_asset: int = 0
    """Created investments whose event matches no asset."""


def derive_investments(store: Store) -> DerivedInvestments:
    """Derive an investment from every event about one, in ordinary commits.

    Repeat it whenever events, users or assets were added. Existing investments stay as
    they are, except that missing references are filled in.

    Args:
        store: store with the Pend schema; its primary takes the commits.

    Returns:
        Numbers of events and investments.
    """
    counts: Counter[str] = Counter()
    for keys in _events(store):
        counts += _derived(store, keys)
    return DerivedInvestments(**counts)


def _events(store: Store) -> Iterator[list[str]]:
    """Yield the keys of events about money, one page at a time."""
    kinds = field("event_type").in_(sorted(_KINDS))
    after = None
    while True:
        events = store.collection(BlockchainEvent)
        page = events.find(kinds, limit=_PAGE, after=after)
        if page.items:
            yield [event.id for event in page.items]
        after = page.next
        if after is None:
            return


def _derived(store: Store, keys: list[str]) -> Counter[str]:
    """Derive a batch in one transaction, or event by event after a unique violation.

    Events, users and assets that an investment is made from are checked at commit.

    Returns:
        Counters by outcome.
    """
    try:
        return store.run(lambda tx: _Derivation(tx).write(keys))
    except UniqueViolation:
        if len(keys) == 1:
            return Counter(events=1, duplicates=1)
        return sum((_derived(store, [key]) for key in keys), Counter())


class _Derivation:
    """One transaction that derives investments, with a cache of users and assets."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._assets: dict[tuple[str, str], str | None] = {}
        self._users: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def write(self, keys: list[str]) -> Counter[str]:
        """Write the investments of these events; return counters by outcome."""
        # Read again inside the transaction: the page was read outside of it.
        found = self._tx.collection(BlockchainEvent).get_many(keys)
        there = [found[key] for key in keys if key in found]
        events = [event for event in there if event.event_type in _KINDS]
        self._look_up({e.wallet_address for e in events if e.wallet_address})
        made = [made for e in events if (made := self._investment(e)) is not None]
        return self._counts + _write(self._tx, made)

    def _look_up(self, addresses: set[str]) -> None:
        if addresses:
            have = field("blockchain_address").in_(sorted(addresses))
            users = self._tx.collection(User).find(have).items
            self._users = {user.blockchain_address: user.id for user in users}

    # -- one event --------------------------------------------------------------------

    def _investment(self, event: BlockchainEvent) -> Investment | None:
        """Build the investment of an event; None for an event without an amount."""
        self._counts["events"] += 1
        if event.amount is None:
            self._counts["without_amount"] += 1
            return None
        status = _status(event.status)
        currency, method = (_text(event, n) for n in ("currency", "paymentMethod"))
        fits = currency is not None and len(currency) <= _LONGEST_CURRENCY
        short = method is not None and len(method) <= _LONGEST_METHOD
        return Investment(
            id=_key_of(event),
            user_id=event.user_id or self._users.get(event.wallet_address or ""),
            asset_id=self._asset(event),
            amount=-event.amount if event.event_type in _REDEEM else event.amount,
            currency=currency if currency and fits else _CURRENCY,
            payment_method=method if short else None,
            status=status,  # type: ignore[arg-type]  # a word of the table
            transaction_hash=event.transaction_hash,
            block_number=event.block_number,
            invested_at=event.timestamp,
            confirmed_at=event.timestamp if status == "confirmed" else None,
            metadata=_metadata(event),
            source_event_id=event.id,
            extra=_spellings(
                status=event.status if event.status != status else None,
                currency=None if fits else currency,
                paymentMethod=None if short else method,
            ),
        )

    def _asset(self, event: BlockchainEvent) -> str | None:
        named = _text(event, "opportunityId") or _text(event, "poolId")
        if named is None and event.event_type.startswith("harvest"):
            named = _HARVEST_POOL
        ways = (("legacy_id", named), ("contract_address", event.contract_address))
        for way, value in ways:
            found = None if value is None else self._asset_by(way, value)
            if found is not None:
                return found
        return None

    def _asset_by(self, name: str, value: str) -> str | None:
        if (name, value) not in self._assets:
            found = self._tx.collection(Asset).get_by(name, value)
            self._assets[name, value] = None if found is None else found.id
        return self._assets[name, value]


def _write(tx: Transaction, investments: list[Investment]) -> Counter[str]:
    """Write investments that are missing or incomplete; return counters by outcome."""
    done: Counter[str] = Counter()
    verbs = tx.collection(Investment)
    there = verbs.get_many([made.id for made in investments])
    for made in investments:
        present = there.get(made.id)
        if present is None:
            written, what = made, "written"
            done["without_user"] += made.user_id is None
            done["without_asset"] += made.asset_id is None
        elif present.source_event_id != made.source_event_id:
            written, what = present, "duplicates"
        else:
            written = _completed(present, made)
            what = "unchanged" if written == present else "completed"
        done[what] += 1
        if what in {"written", "completed"}:
            verbs.put(written)
        there[made.id] = written
    return done


def _key_of(event: BlockchainEvent) -> str:
    # Events about one transaction share the key, so they make one investment.
    if event.transaction_hash is None:
        return record_id("investments", "event", event.id)
    named = _text(event, "opportunityId") or _text(event, "poolId")
    place = named or event.contract_address or ""
    return record_id("investments", "transaction", event.transaction_hash, place)


def _completed(present: Investment, made: Investment) -> Investment:
    """Fill in references of an existing investment that were missing."""
    return replace(
        present,
        user_id=present.user_id or made.user_id,
        asset_id=present.asset_id or made.asset_id,
    )


def _status(word: str | None) -> str:
    # Null counts as confirmed in the wallet's interface.
    return "confirmed" if word is None else _STATUS.get(word.lower(), "pending")


def _text(event: BlockchainEvent, name: str) -> str | None:
    found = event.decoded_data.get(name)
    return found if isinstance(found, str) and found else None


def _metadata(event: BlockchainEvent) -> dict[str, Any]:
    nested = event.decoded_data.get("metadata")
    members = (
        {**nested, **event.decoded_data}
        if isinstance(nested, Mapping)
        else (event.decoded_data)
    )
    return {
        "eventType": event.event_type,
        **{n: members[n] for n in _COPIED_MEMBERS if n in members},
    }


def _spellings(**words: str | None) -> dict[str, Any]:
    return {name: word for name, word in words.items() if word is not None}
