"""``wallet-db.json``: users, as phone hash to wallet address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage.legacy import _notes as notes
from pend_storage.legacy._convert import hex_text
from pend_storage.legacy._exact_json import UnreadableError, with_numbers
from pend_storage.legacy._mapping import Derived, Groups, Reads, RecordMapping, Source
from pend_storage.pend._identity import canonical_hash, user_id_of
from pend_storage.pend.records import User, UserProfile

__all__ = ["FILE", "WalletMapping", "hash_of_name", "spelled_name"]

FILE: Final = "wallet-db.json"

_ADDRESS: Final = hex_text(40)
_ADDRESS_NAMES: Final = ("address", "walletAddress", "wallet")
"""Members that may hold the address of a wallet object; the first present counts."""


def hash_of_name(name: str | None) -> str:
    """Parse the member name of a user as a phone hash.

    Raises:
        UnreadableError: the name is not a hash of 64 hexadecimal digits.
    """
    try:
        found: str = canonical_hash(name)
    except ValueError as error:
        raise UnreadableError(
            "bad-key", "the member name is not a phone hash (64 hexadecimal digits)"
        ) from error
    return found


def spelled_name(legacy_key: str | None, phone_hash: str) -> str:
    """Return the member name of a record: its original spelling, if that still fits."""
    try:
        return (
            str(legacy_key) if canonical_hash(legacy_key) == phone_hash else phone_hash
        )
    except ValueError:
        return phone_hash


class WalletMapping(RecordMapping):
    """Mapping of users; an empty profile is derived for each."""

    collection = "users"
    guarded: ClassVar[Groups] = (("blockchain_address",),)

    def __init__(self) -> None:
        self.told: frozenset[str] = frozenset(
            {
                "phone_hash",
                "blockchain_address",
                "legacy_key",
                "legacy_value",
                "extra",
                "content_hash",
            }
        )

    @override
    def read(self, source: Source, refused: frozenset[str] = frozenset()) -> User:
        phone_hash = hash_of_name(source.name)
        address = _address_in(source.value)
        extra: dict[str, Any] = {}
        if source.exact:
            extra[notes.RESERVED] = {"numbers": notes.numbers_of(source.value)}
        return User(
            id=user_id_of(phone_hash),
            phone_hash=phone_hash,
            blockchain_address=address,
            created_at=None,
            updated_at=None,
            legacy_key=source.name,
            legacy_value=None if source.value == address else source.value,
            extra=extra,
            legacy_position=source.position,
            content_hash=source.digest,
        )

    @override
    def write(self, record: User) -> Any:
        kept = with_numbers(record.legacy_value, notes.numbers_in(record.extra))
        try:
            unchanged = _address_in(kept) == record.blockchain_address
        except UnreadableError:
            return record.blockchain_address
        if unchanged:
            return kept
        if isinstance(kept, Mapping):
            return {**kept, _address_name(kept): record.blockchain_address}
        return record.blockchain_address

    @override
    def name(self, record: User) -> str:
        return spelled_name(record.legacy_key, record.phone_hash)

    @override
    def identity(self, record: User) -> str:
        return record.phone_hash

    @override
    def find(self, reads: Reads, name: str) -> User | None:
        try:
            phone_hash = hash_of_name(name)
        except UnreadableError:
            return None
        found: User | None
        found = reads.collection("users").get_by("phone_hash", phone_hash)
        return found

    @override
    def derive(self, record: User, value: Any) -> Iterable[Derived]:
        return (("user_profiles", UserProfile(user_id=record.id)),)

    @override
    def merge(self, present: User, read: User) -> User:
        extra = notes.renewed(present.extra, read.extra)
        merged: User = replace(super().merge(present, read), extra=extra)
        return merged


def _address_name(value: Mapping[str, Any]) -> str:
    found = (name for name in _ADDRESS_NAMES if name in value)
    name = next(found, None)
    if name is None:
        raise UnreadableError("missing-member", "the object has no address member")
    return name


def _address_in(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value[_address_name(value)]
    elif not isinstance(value, str):
        raise UnreadableError("wrong-type", "neither an address nor an object")
    try:
        address: str = _ADDRESS(value)
    except ValueError as error:
        raise UnreadableError(
            "bad-value", "it is not a wallet address (40 hexadecimal digits)"
        ) from error
    return address
