"""Table ``backup`` of an environment: the repository, and what is kept in it for how long."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = [
    "BackupSettings",
    "BackupTable",
    "KeepSettings",
    "KeepTable",
    "Resolve",
    "backup_settings",
    "parse_duration",
]

DEFAULT_SCHEDULE: Final = "daily"
DEFAULT_LOG_WITHIN: Final = timedelta(days=7)
DEFAULT_MAX_AGE: Final = timedelta(hours=26)
DEFAULT_MAX_HOLD: Final = timedelta(days=3)

_Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]

_UNITS: Final = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,6})?(?:min|s|m|h|d|w)\s{0,9})+")
_STEP: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(min|s|m|h|d|w)")
_LONGEST: Final = timedelta(days=36_500)
_SCHEDULE: Final = re.compile(
    r"(?:hourly|daily|weekly|monthly)|[\w*,/#-]{1,99}(?:\s{1,9}[\w*,/#-]{1,99}){4}",
    re.ASCII,
)
_SCHEMES: Final = frozenset({"file", "s3"})
_ADDRESSES: Final = (
    "Write a folder, file:///FOLDER, or s3://BUCKET/PREFIX; credentials of a bucket belong "
    "in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSettings:
    """Backups that are kept: each member keeps some by itself."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta | None = None
    """Every backup that is not older."""


DEFAULT_KEEP: Final = KeepSettings(last=2, daily=7, weekly=5, monthly=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings:
    """Settings of the backups of one environment."""

    repository: str
    """Address of the repository: an absolute folder, ``file:///...`` or ``s3://...``."""
    schedule: str = DEFAULT_SCHEDULE
    """``hourly``, ``daily``, ``weekly``, ``monthly``, or five fields of cron; in UTC."""
    keep: KeepSettings = DEFAULT_KEEP
    log_within: timedelta = DEFAULT_LOG_WITHIN
    """Age up to which the archived change log is kept, also where no backup needs it."""
    encrypt_to: tuple[str, ...] = ()
    """Public keys of age."""
    identity_file: Path | None = None
    """File with the secret keys of age; only restores and verification need it."""
    identity: str | None = field(default=None, repr=False)
    """Content of such a file, from ``PEND_BACKUP_IDENTITY``."""
    max_age: timedelta = DEFAULT_MAX_AGE
    """Age of the last good backup above which it does not count any more."""
    max_hold: timedelta = DEFAULT_MAX_HOLD
    """Time for which the change log is kept for an archive that lags."""
    rto: timedelta | None = None
    """Most time that a drill may take from its beginning to the first read; None: any."""
    rpo: timedelta | None = None
    """Greatest age of the newest restorable commit; None: any."""


class KeepTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Table ``backup.keep`` of the file."""

    last: _Count = 0
    hourly: _Count = 0
    daily: _Count = 0
    weekly: _Count = 0
    monthly: _Count = 0
    yearly: _Count = 0
    within: _Text | None = None


class BackupTable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Table ``backup`` of the file."""

    repository: _Text | None = None
    schedule: _Text = DEFAULT_SCHEDULE
    keep: KeepTable | None = None
    log_within: _Text | None = None
    encrypt_to: list[_Text] = []
    identity_file: _Text | None = None
    max_age: _Text | None = None
    max_hold: _Text | None = None
    rto: _Text | None = None
    rpo: _Text | None = None


class Resolve(Protocol):
    """Resolves a path of the file, which is relative to the file's folder."""

    def __call__(self, text: str, /) -> Path: ...


def parse_duration(text: str, *, place: str) -> timedelta:
    """Parse a duration such as ``36h``, ``90s``, ``15min`` or ``1d 12h``.

    Args:
        text: numbers with their units: s, min, h, d, w.
        place: where it is written, for messages.

    Raises:
        ConfigError: it is none, or longer than 100 years.
    """
    seconds = 0.0
    if _DURATION.fullmatch(text.strip()):
        seconds = sum(float(n) * _UNITS[unit] for n, unit in _STEP.findall(text))
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise ConfigError(
            f"{place}: {shown(text)} is no duration. Write numbers with their units (s, min, "
            "h, d, w), such as 36h or 1d 12h."
        )
    return timedelta(seconds=seconds)


def backup_settings(
    table: BackupTable | None,
    *,
    place: str,
    resolve: Resolve,
    repository: str | None = None,
    identity: str | None = None,
) -> BackupSettings | None:
    """Check a table ``backup``; None where no repository is named.

    Args:
        table: as it is written; None: it is not there.
        place: of the table, for messages.
        resolve: paths of the file.
        repository: address by the environment variable, in place of the file's.
        identity: secret keys by the environment variable.

    Raises:
        ConfigError: a member is wrong.
    """
    if table is None and repository is None:
        return None
    table = table or BackupTable()
    written = repository or table.repository
    if written is None:
        raise ConfigError(
            f"{place}: repository is missing. Write where the backups are kept: "
            'repository = "/var/backups/pend", or "s3://BUCKET/PREFIX".'
        )
    spare: dict[str, timedelta] = {}
    for name in ("log_within", "max_age", "max_hold", "rto", "rpo"):
        value = getattr(table, name)
        if value is not None:
            spare[name] = parse_duration(value, place=f"{place}.{name}")
    if not _SCHEDULE.fullmatch(table.schedule.strip()):
        raise ConfigError(
            f"{place}.schedule: {shown(table.schedule)} is no schedule. Write hourly, daily, "
            'weekly, monthly, or five fields of cron, such as "30 3 * * *" (UTC).'
        )
    file = table.identity_file
    return BackupSettings(
        repository=_address(written, f"{place}.repository", resolve),
        schedule=table.schedule.strip(),
        keep=_keep(table.keep, f"{place}.keep"),
        encrypt_to=_recipients(table.encrypt_to, f"{place}.encrypt_to"),
        identity_file=None if file is None else resolve(file),
        identity=identity,
        **spare,
    )


def _keep(table: KeepTable | None, place: str) -> KeepSettings:
    if table is None:
        return DEFAULT_KEEP
    within = table.within
    keep = KeepSettings(
        last=table.last,
        hourly=table.hourly,
        daily=table.daily,
        weekly=table.weekly,
        monthly=table.monthly,
        yearly=table.yearly,
        within=None
        if within is None
        else parse_duration(within, place=f"{place}.within"),
    )
    if keep == KeepSettings():
        raise ConfigError(
            f"{place}: it keeps no backup. Write what is kept, such as "
            "keep = { last = 2, daily = 7, weekly = 5, monthly = 12 }."
        )
    return keep


def _recipients(written: list[str], place: str) -> tuple[str, ...]:
    for number, key in enumerate(written, 1):
        # Not shown: the other half of such a key is a secret, and looks alike.
        if not key.startswith("age1"):
            raise ConfigError(
                f"{place}: entry {number} is no public key of age, which begins with age1. "
                "Write the public key that age-keygen prints; the secret one belongs in "
                "identity_file."
            )
    return tuple(written)


def _address(text: str, place: str, resolve: Resolve) -> str:
    """Return the address of a repository; a folder as an absolute path."""
    scheme, colon, _ = text.partition("://")
    if not colon:
        return str(resolve(text))
    if scheme not in _SCHEMES:
        # Not shown: a mistyped address may be one with a password.
        raise ConfigError(f"{place}: it is of no known kind. {_ADDRESSES}")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = None
    if parts is None or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"{place}: it is no plain address. {_ADDRESSES}")
    if scheme == "s3" and not parts.netloc:
        raise ConfigError(f"{place}: the name of the bucket is missing. {_ADDRESSES}")
    if scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise ConfigError(
                f"{place}: a file: address has three slashes and an absolute folder. "
                f"{_ADDRESSES}"
            )
        return str(resolve(unquote(parts.path)))
    return text
