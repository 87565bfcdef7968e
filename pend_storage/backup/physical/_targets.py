"""Recovery targets: a transaction, a time, a named point, or the end of a backup.

A sequence number of the database is made of the id of its transaction, so "before commit
N" is a target that PostgreSQL itself knows: the id, without the transaction itself. The
server stops at the commit of that transaction in the order of commits. Transactions with a
lower id that committed later are out, and those with a higher id that committed earlier are
in; a restore of a snapshot and the archived change log is exact by number instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pend_storage._model.meta_names import NUMBERS_PER_TRANSACTION, OFFSET_META
from pend_storage._shown import listed, moment, shown
from pend_storage.errors import ConfigError

__all__ = [
    "NUMBERS_PER_TRANSACTION",
    "OFFSET_META",
    "RecoveryTarget",
    "end_of_backup",
    "end_of_log",
    "named_point",
    "sequence_target",
    "time_target",
    "transaction_of",
]

_LOWEST: Final = 3
"""First id that PostgreSQL gives to a transaction."""
_WRAP: Final = 1 << 32
_LONGEST_NAME: Final = 63


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """Target, as settings of the server that recovers."""

    text: str
    """For people."""
    settings: tuple[tuple[str, str], ...] = ()
    stops: bool = True
    """The server must say that it stopped; False where it goes to the end of the log."""
    is_backup_end: bool = False
    """Nothing of the archived log is needed."""


def transaction_of(sequence: int, offset: int) -> int:
    """Return the full id of the transaction that gave a sequence number."""
    return sequence // NUMBERS_PER_TRANSACTION - offset


def sequence_target(
    sequence: int,
    *,
    inclusive: bool,
    offset: int,
    backup_end: int,
    others: Iterable[int] = (),
) -> RecoveryTarget:
    """Return the target before, or up to, a commit.

    Args:
        sequence: of the commit.
        inclusive: with the commit itself; else it is the first that is missing.
        offset: of the numbers, when the commit was made.
        backup_end: sequence at the end of the base backup.
        others: sequences of the same transaction, if they are known: commits that were
            made at once share one.

    Raises:
        ConfigError: the backup has the commit already, or a transaction would have to be
            divided.
    """
    if sequence <= backup_end:
        raise ConfigError(
            f"commit {sequence} is not after the end of the backup, which has commits up to "
            f"{backup_end}. Choose an earlier backup: `backup list`."
        )
    number = transaction_of(sequence, offset)
    if number < _LOWEST:
        raise ConfigError(
            f"commit {sequence} was not made by this server: its numbers begin with "
            f"{(_LOWEST + offset) * NUMBERS_PER_TRANSACTION}. Restore a snapshot and the "
            "archived change log instead: without --kind."
        )
    same = {each for each in others if transaction_of(each, offset) == number}
    between = [n for n in same if (n > sequence if inclusive else n < sequence)]
    if between:
        raise ConfigError(
            f"commit {sequence} shares its transaction with {listed(map(str, sorted(between)))}: "
            "commits made at once are one transaction, and recovery cannot stop inside one. "
            f"Choose {'SEQUENCE' if inclusive else 'before:SEQUENCE'} with "
            f"{max(same) if inclusive else min(same)}; or restore a snapshot and the archived "
            "change log, which divide it: without --kind."
        )
    return RecoveryTarget(
        f"{'commit' if inclusive else 'before commit'} {sequence}",
        (
            ("recovery_target_xid", str(number % _WRAP)),
            ("recovery_target_inclusive", "on" if inclusive else "off"),
        ),
    )


def time_target(at: datetime, *, backup_end: datetime) -> RecoveryTarget:
    """Return the target of a time: commits up to it, by the clock of the server.

    Args:
        at: with a zone.
        backup_end: end of the base backup, by the clock of the server.

    Raises:
        ConfigError: it has no zone, is not after the backup, or lies in the future.
    """
    if at.tzinfo is None:
        raise ConfigError(
            f"{shown(at.isoformat())} has no time zone, and the server would read it in its "
            f"own. Write it with one: {at.isoformat()}+00:00."
        )
    if at <= backup_end:
        raise ConfigError(
            f"{moment(at)} is not after the end of the backup, {moment(backup_end)}: the "
            "server would silently give the state at its end. Choose an earlier backup: "
            "`backup list`."
        )
    if at > datetime.now(UTC):
        raise ConfigError(
            f"{moment(at)} lies in the future. To get everything that is archived: --to "
            "latest."
        )
    text = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
    return RecoveryTarget(
        f"{moment(at)}",
        (("recovery_target_time", text), ("recovery_target_inclusive", "on")),
    )


def named_point(name: str) -> RecoveryTarget:
    """Return the target of a named point, as ``pg_create_restore_point`` made it.

    Raises:
        ConfigError: it cannot be the name of one.
    """
    if not name or len(name.encode()) > _LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"{shown(name)} cannot name a point: 1 to {_LONGEST_NAME} visible characters."
        )
    return RecoveryTarget(f"point {shown(name)}", (("recovery_target_name", name),))


def end_of_backup() -> RecoveryTarget:
    """Return the target of a base backup as it is: the first consistent state."""
    return RecoveryTarget(
        "the end of the backup",
        (("recovery_target", "immediate"),),
        is_backup_end=True,
    )


def end_of_log() -> RecoveryTarget:
    """Return the target of everything that is archived."""
    return RecoveryTarget("the end of the archived log", stops=False)
