"""World: users, assets, times and blocks of the invented server.

Nothing is stored: every hash, address and time is computed from a seed and a number,
so that any file can refer to any user or event, however many there are.
"""

import hashlib
from bisect import bisect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = 1_755_648_000_417
"""Milliseconds since 1970: 2025-08-20, the time of the documented server's data."""
_PERIOD: Final = 217 * 86_400_000
"""Milliseconds from the first event to the last."""
_LAST_BLOCK: Final = 74_211
"""Number of the newest block; the documents name 44,000 to 74,000 blocks."""
_EVENTS_PER_USER: Final = 4
_USER_TIERS: Final = tuple(accumulate((156, 89, 34, 12, 5)))
"""Cumulative users of tiers 0 to 4, as documented; 296 in all."""
_POOLS: Final = (
    "harvest-pool",
    "solar-farm-aswan",
    "gold-vault",
    "real-estate-cairo",
    "olive-trees",
    "logistics-hub",
    "clinic-network",
    "date-palms",
)


def checksum_case(address: str) -> str:
    """Spell hex in mixed case, as wallets do to detect typing errors.

    The real spelling needs keccak-256, which the standard library lacks; here SHA-256
    decides which letters are capitals.
    """
    bits = hashlib.sha256(address.encode()).digest()
    return address[:2] + "".join(
        letter.upper() if bits[place % 32] & 1 else letter
        for place, letter in enumerate(address[2:])
    )


def iso(milliseconds: int) -> str:
    """Format a time as ``Date.toISOString`` does: ``2025-06-19T07:58:56.380Z``."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


@dataclass(frozen=True)  # no slots: cached properties need a dictionary
class World:
    """Invented server, defined by a seed, its users and its transaction log's length.

    Events are numbered from 1, the oldest. Numbers below 1 are events that have left
    the log: they have a time and a block too.
    """

    seed: int
    users: int
    events: int

    @cached_property
    def assets(self) -> int:
        """Number of assets on offer: 12 for 139 users, 50 for 1,000."""
        return min(500, 12 + max(0, self.users - 139) // 23)

    @cached_property
    def spacing(self) -> int:
        """Number of events for each new wallet."""
        return max(_EVENTS_PER_USER, self.events // max(1, self.users))

    @cached_property
    def span(self) -> int:
        """Number of events in the whole life of the server."""
        return max(1, self.events, self.users * self.spacing)

    def digest(self, what: str, number: int | str) -> str:
        """Return 64 hex digits, unique to a kind of thing and its number."""
        return hashlib.sha256(f"{self.seed}/{what}/{number}".encode()).hexdigest()

    def hash(self, what: str, number: int | str) -> str:
        """Return a hash of 32 bytes as the server prints it, with ``0x``."""
        return "0x" + self.digest(what, number)

    def address(self, what: str, number: int | str) -> str:
        """Return an address of 20 bytes in lower case, with ``0x``."""
        return "0x" + self.digest(what, number)[:40]

    def identity(self, user: int) -> str:
        """Return the user's identity hash, which is also the phone hash."""
        return self.hash("identity", user)

    def wallet(self, user: int) -> str:
        """Return the user's wallet address in lower case."""
        return self.address("wallet", user)

    def phone(self, user: int) -> str:
        """Return a phone number that is not assigned: +20 10 and then a counter."""
        return f"+2010{user:08d}"

    def masked_phone(self, user: int) -> str:
        """Return the phone number with its last four digits masked."""
        return self.phone(user)[:-4] + "****"

    def tier(self, user: int) -> int:
        """Return the user's tier, 0 to 4, in the documented distribution."""
        lot = int(self.digest("tier", user)[:8], 16) % _USER_TIERS[-1]
        return bisect(_USER_TIERS, lot)

    def asset_id(self, asset: int) -> str:
        """Return the pool id of an asset: a word, numbered when words run out."""
        word = _POOLS[asset % len(_POOLS)]
        return word if asset < len(_POOLS) else f"{word}-{asset // len(_POOLS) + 1}"

    def contract(self, asset: int) -> str:
        """Return the contract address of an asset, in lower case."""
        return self.address("contract", asset)

    def moment(self, event: int) -> int:
        """Return the time of an event, in milliseconds since 1970."""
        return _LAST_MOMENT - (self.events - event) * _PERIOD // self.span

    def time(self, event: int) -> str:
        """Return the time of an event, as the server prints it."""
        return iso(self.moment(event))

    def block(self, event: int) -> int:
        """Return the number of the block that holds an event."""
        return _LAST_BLOCK - (self.events - event) * (_LAST_BLOCK - 1) // self.span

    def transaction(self, event: int) -> str:
        """Return the transaction hash of an event."""
        return self.hash("transaction", event)

    def birth(self, user: int) -> int:
        """Return the number of the event that created the user's wallet."""
        later = (self.users - 1 - user) * self.spacing
        return self.events - self.spacing // 2 - later

    def newborn(self, event: int) -> int | None:
        """Return the user whose wallet an event creates, or None."""
        later, rest = divmod(self.events - self.spacing // 2 - event, self.spacing)
        user = self.users - 1 - later
        return user if not rest and 0 <= user < self.users else None

    def population(self, event: int) -> int:
        """Return the number of wallets at the time of an event; at least one."""
        since = self.events - self.spacing // 2 - event
        return max(1, self.users - max(0, -(-since // self.spacing)))
