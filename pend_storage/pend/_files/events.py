"""``transactions-log.json`` and ``persistent-transactions.json``: blockchain events."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage.legacy._convert import (
    MILLISECONDS_FROM,
    amount,
    amount_text,
    hex_text,
    integer,
    number_of_text,
    text,
    text_of,
    time,
    time_text,
)
from pend_storage.legacy._exact_json import as_decimal, dump
from pend_storage.legacy._mapping import Source
from pend_storage.legacy._members import Member, ObjectMapping, inside, time_member
from pend_storage.pend._identity import record_id, user_id_of
from pend_storage.pend.records import TRANSACTIONS_LOG, BlockchainEvent
from pend_storage.query import Condition, field

__all__ = ["PERSISTENT", "TRANSACTIONS_LOG", "CollectedMapping", "EventMapping"]

PERSISTENT: Final = "explorer-data/persistent-transactions.json"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_ADDRESS: Final = hex_text(40)
_HASH: Final = hex_text(64)
_WEI_PLACES: Final = 18
_STATUS_WORDS: Final = {0: "failed", 1: "confirmed"}
_STATUS_NUMBERS: Final = {word: number for number, word in _STATUS_WORDS.items()}


class _EventMapping(ObjectMapping):
    """Base of the event mappings; equal events differ by their occurrence number."""

    collection = "blockchain_events"
    record_type: ClassVar[type[Any]] = BlockchainEvent
    computed: ClassVar[tuple[str, ...]] = ("source", "occurrence", "amount_raw")
    where_tells: ClassVar[bool] = True
    file: str
    amount_member: str

    def __init__(self) -> None:
        super().__init__()
        self.where: tuple[Condition, ...] = (field("source") == self.file,)

    @override
    def complete(self, columns: dict[str, Any], source: Source) -> None:
        columns["source"] = self.file
        columns["occurrence"] = source.occurrence
        columns["id"] = self._key_of(source.digest, source.occurrence)
        # The column holds a number; only the spelling renders the same file again.
        spelled = source.value.get(self.amount_member)
        if spelled is not None:
            columns["amount_raw"] = (
                spelled if isinstance(spelled, str) else dump(spelled).decode()
            )
        self.finish(columns)

    @abstractmethod
    def finish(self, columns: dict[str, Any]) -> None:
        """Set the columns that only one of the files has."""

    def _key_of(self, content_hash: str, occurrence: int) -> str:
        return record_id("blockchain_events", self.file, content_hash, str(occurrence))

    @override
    def owns(self, record: BlockchainEvent) -> bool:
        return record.source == self.file

    @override
    def by_content(self, record: BlockchainEvent) -> bool:
        return True

    @override
    def again(self, record: BlockchainEvent, occurrence: int) -> BlockchainEvent:
        key = self._key_of(str(record.content_hash), occurrence)
        return replace(record, id=key, occurrence=occurrence)

    @override
    def born(self, record: BlockchainEvent) -> datetime:
        return record.timestamp


class EventMapping(_EventMapping):
    """Mapping of the transaction log that users see, newest event first."""

    file = TRANSACTIONS_LOG
    amount_member = "amount"
    members: ClassVar[tuple[Member, ...]] = (
        Member("id", "legacy_id", text_of, number_of_text),
        Member("type", "event_type", text, required=True),
        time_member("timestamp", "timestamp", required=True),
        Member("identityHash", "identity_hash", _HASH),
        Member("walletAddress", "wallet_address", _ADDRESS),
        Member("subType", "sub_type", text),
        *inside("decoded_data", "poolId", "opportunityId"),
        Member("contractAddress", "contract_address", _ADDRESS),
        Member("senderWalletAddress", "from_address", _ADDRESS),
        Member("amount", "amount", amount, amount_text),
        Member("token", "token", text),
        *inside("decoded_data", "currency", "paymentMethod"),
        Member("txHash", "transaction_hash", _HASH),
        Member("blockNumber", "block_number", integer),
        Member("status", "status", text),
        # Personal data: it stays where it was found, see the decision on it.
        *inside("extra", "phoneNumber"),
        *inside(
            "decoded_data",
            "action",
            "consentTier",
            "consentType",
            "consentLevel",
            "location",
            "biometricUsed",
            "deviceFingerprint",
            "metadata",
        ),
    )

    @override
    def finish(self, columns: dict[str, Any]) -> None:
        identity = columns.get("identity_hash")
        if identity is not None:
            columns["user_id"] = user_id_of(identity)


def _wei(value: Any) -> Decimal:
    """Parse an amount as ether: integers are wei, numbers with a point are ether."""
    if isinstance(value, str) and "." in value:
        return amount(value)
    if isinstance(value, float):
        return as_decimal(value)
    # Not a division by 10**18: that would round to the precision of the context.
    sign, digits, _ = Decimal(integer(value)).as_tuple()
    return Decimal((sign, digits, -_WEI_PLACES))


def _wei_text(value: Decimal) -> str:
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - stores hold finite numbers only
    return f"{Decimal((sign, digits, exponent + _WEI_PLACES)):f}".partition(".")[0]


def _seconds(value: datetime) -> int | str:
    """Format whole seconds since 1970, or text where a number would be misread.

    A number from ``MILLISECONDS_FROM`` on would be read again as milliseconds.
    """
    seconds, rest = divmod(value - _EPOCH, _SECOND)
    return seconds if not rest and 0 < seconds < MILLISECONDS_FROM else time_text(value)


def _status(value: Any) -> str:
    return text(_STATUS_WORDS.get(value, value) if type(value) is int else value)


def _status_number(value: str) -> int | str:
    return _STATUS_NUMBERS.get(value, value)


class CollectedMapping(_EventMapping):
    """Mapping of the data collector's events; amounts are wei there, and ether here."""

    file = PERSISTENT
    amount_member = "value"
    members: ClassVar[tuple[Member, ...]] = (
        Member("hash", "transaction_hash", _HASH),
        Member("blockNumber", "block_number", integer),
        Member("from", "from_address", _ADDRESS),
        Member("to", "to_address", _ADDRESS),
        Member("value", "amount", _wei, _wei_text),
        Member("timestamp", "timestamp", time, _seconds, required=True),
        Member("status", "status", _status, _status_number),
        Member("type", "event_type", text, blank="transaction"),
    )

    @override
    def finish(self, columns: dict[str, Any]) -> None:
        columns.setdefault("event_type", "transaction")
