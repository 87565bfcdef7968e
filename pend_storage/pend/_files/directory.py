"""``wallets-directory.json``: documents from which user profiles are derived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from typing_extensions import override

from pend_storage.legacy._convert import hex_text, integer, text, time
from pend_storage.legacy._mapping import Derived
from pend_storage.pend._files.documents import DocumentMapping
from pend_storage.pend._identity import canonical_hash, user_id_of
from pend_storage.pend.records import Document, UserProfile

__all__ = ["FILE", "DirectoryMapping"]

FILE: Final = "explorer-data/wallets-directory.json"

_BALANCES: Final = {
    "egpBalance": "EGP",
    "hvtBalance": "HVT",
    "ethBalance": "ETH",
    "balance": "balance",
}
"""Member name to the token of its balance."""
_HIDDEN: Final = 4
"""Hidden digits of a masked telephone number, as in most documents of the server."""
_LONGEST_MASK: Final = 20
_LONGEST_COUNTRY: Final = 3
_LARGEST_BLOCK: Final = 2**63 - 1


class DirectoryMapping(DocumentMapping):
    """Mapping to documents, which also derives the profile of each wallet's user."""

    def __init__(self) -> None:
        super().__init__(FILE)

    @override
    def derive(self, record: Document, value: Any) -> Iterable[Derived]:
        if not isinstance(value, Mapping):
            return
        identity = _first_parsed(canonical_hash, value, "identityHash", "phoneHash")
        if identity is None:
            identity = _first_parsed(canonical_hash, {"key": record.key}, "key")
        if identity is not None:
            yield "user_profiles", _profile(user_id_of(identity), value)


def _profile(user_id: str, value: Mapping[str, Any]) -> UserProfile:
    block = _first_parsed(integer, value, "createdBlock")
    country = None
    if isinstance(identity := value.get("identity"), Mapping):
        country = _first_parsed(text, identity, "region")
    return UserProfile(
        user_id=user_id,
        phone_number_masked=_mask(value),
        country_code=country if country and len(country) <= _LONGEST_COUNTRY else None,
        wallet_created_at=_first_parsed(time, value, "createdAt"),
        wallet_created_block=block if block and 0 < block <= _LARGEST_BLOCK else None,
        creation_tx_hash=_first_parsed(hex_text(64), value, "creationTxHash"),
        last_activity_at=_first_parsed(time, value, "lastUpdated"),
        balances={
            token: value[name]
            for name, token in _BALANCES.items()
            if isinstance(value.get(name), str)
        },
    )


def _first_parsed(
    parse: Callable[[Any], Any], value: Mapping[str, Any], *names: str
) -> Any:
    """Return the first member that can be parsed, or None.

    Args:
        parse: converts a value, or raises.
        value: object with the members.
        names: member names, in order of preference.
    """
    for name in names:
        try:
            return parse(value[name])
        except (KeyError, ValueError, ArithmeticError):
            continue
    return None


def _mask(value: Mapping[str, Any]) -> str | None:
    masked = value.get("maskedPhone")
    whole = value.get("phoneNumber")
    if not (isinstance(masked, str) and masked):
        # Without the server's own mask the profile hides as many digits as the server.
        if not (isinstance(whole, str) and len(whole) > _HIDDEN):
            return None
        masked = whole[:-_HIDDEN] + "*" * _HIDDEN
    return masked if len(masked) <= _LONGEST_MASK else None
