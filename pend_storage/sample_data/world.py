"""The invented server whose files are written: its users, assets, hours and blocks.

Nothing is stored: every hash, address and time is computed from a seed and a number,
so that any file can refer to any user or event however many there are.
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
"""Milliseconds: 2025-08-20, when the documented server was last seen."""
_PERIOD: Final = 217 * 86_400_000
_LAST_BLOCK: Final = 74_211
"""Documents name 44,000 to 74,000 blocks."""
_EVENTS_PER_USER: Final = 4
_USER_TIERS: Final = tuple(accumulate((156, 89, 34, 12, 5)))
"""Users of tiers 0 to 4, as the documents print the distribution; 296 in all."""
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
    """Print a time as ``Date.toISOString`` does, ``2025-06-19T07:58:56.380Z``."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


@dataclass(frozen=True)  # no slots: cached properties need a dictionary
class World:
    """A server with so many users and so many entries in its transaction log.

    Events are numbered from 1, the oldest. Numbers below 1 are events that have left
    the log: they have a time and a block too.
    """

    seed: int
    users: int
    events: int

    @cached_property
    def assets(self) -> int:
        """How many investments are on offer: 12 for 139 users, 50 for 1,000."""
        return min(500, 12 + max(0, self.users - 139) // 23)

    @cached_property
    def spacing(self) -> int:
        """How many events there are for each new wallet."""
        return max(_EVENTS_PER_USER, self.events // max(1, self.users))

    @cached_property
    def span(self) -> int:
        """Events in the whole life of the server."""
        return max(1, self.events, self.users * self.spacing)

    def digest(self, what: str, number: int | str) -> str:
        """64 hex digits that belong to this thing and no other."""
        return hashlib.sha256(f"{self.seed}/{what}/{number}".encode()).hexdigest()

    def hash(self, what: str, number: int | str) -> str:
        """A 32-byte hash as the server prints it, with ``0x``."""
        return "0x" + self.digest(what, number)

    def address(self, what: str, number: int | str) -> str:
        """A 20-byte address in lower case, with ``0x``."""
        return "0x" + self.digest(what, number)[:40]

    def identity(self, user: int) -> str:
        """The user's identity hash, which is also the phone hash."""
        return self.hash("identity", user)

    def wallet(self, user: int) -> str:
        """The user's wallet address in lower case."""
        return self.address("wallet", user)

    def phone(self, user: int) -> str:
        """A number of the right form that nobody has: +20 10 and then a counter."""
        return f"+2010{user:08d}"

    def masked_phone(self, user: int) -> str:
        """The number with its last four digits hidden."""
        return self.phone(user)[:-4] + "****"

    def tier(self, user: int) -> int:
        """The user's tier, 0 to 4, in the documented distribution."""
        lot = int(self.digest("tier", user)[:8], 16) % _USER_TIERS[-1]
        return bisect(_USER_TIERS, lot)

    def asset_id(self, asset: int) -> str:
        """The pool id of an asset: a word, numbered when words run out."""
        word = _POOLS[asset % len(_POOLS)]
        return word if asset < len(_POOLS) else f"{word}-{asset // len(_POOLS) + 1}"

    def contract(self, asset: int) -> str:
        """The contract address of an asset, in lower case."""
        return self.address("contract", asset)

    def moment(self, event: int) -> int:
        """When an event happened, in milliseconds since 1970."""
        return _LAST_MOMENT - (self.events - event) * _PERIOD // self.span

    def time(self, event: int) -> str:
        """When an event happened, as the server prints it."""
        return iso(self.moment(event))

    def block(self, event: int) -> int:
        """The number of the block that holds an event."""
        return _LAST_BLOCK - (self.events - event) * (_LAST_BLOCK - 1) // self.span

    def transaction(self, event: int) -> str:
        """The transaction hash of an event."""
        return self.hash("transaction", event)

    def birth(self, user: int) -> int:
        """The event in which the user's wallet was created."""
        later = (self.users - 1 - user) * self.spacing
        return self.events - self.spacing // 2 - later

    def newborn(self, event: int) -> int | None:
        """The user whose wallet this event creates, if it creates one."""
        later, rest = divmod(self.events - self.spacing // 2 - event, self.spacing)
        user = self.users - 1 - later
        return user if not rest and 0 <= user < self.users else None

    def population(self, event: int) -> int:
        """How many wallets exist when an event happens; at least one."""
        since = self.events - self.spacing // 2 - event
        return max(1, self.users - max(0, -(-since // self.spacing)))
