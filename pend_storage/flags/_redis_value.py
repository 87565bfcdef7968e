"""Value of the phase flag in Redis: its text, its bounds, its signature. No I/O."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from pend_storage.errors import ConfigError
from pend_storage.flags._signature import FlagKeys
from pend_storage.flags.memory import LARGEST_JUMP
from pend_storage.flags.source import DesiredPhase, ForgedFlag, UnsignedFlag
from pend_storage.phases import Phase, parse_phase

__all__ = [
    "HIGHEST_VERSION",
    "LONGEST_VALUE",
    "FlagValue",
    "RedisValues",
    "time_text",
]

HIGHEST_VERSION: Final = 2**53 - 1
"""Highest version: Lua counts in floating-point numbers, which are exact up to here."""
LONGEST_VALUE: Final = 1024
"""Bytes of a value; what is longer is no flag, and is not read to its end."""
_LONGEST_NAME: Final = 120
_FUTURE: Final = timedelta(days=1)
"""How far the clocks of two machines may differ. A value from the far future would make
every later one look old."""
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00"
)
"""Format of the time of a write."""


class FlagValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """Value of the key. Members that a later version of the library adds are skipped."""

    phase: str
    version: Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_VERSION)] = 0
    by: str = ""
    at: str = ""
    """Time of the write, in one fixed format, so that texts compare as times do."""
    mac: str = ""
    """Signature; empty where it has none."""

    @property
    def time(self) -> str:
        """Time of the write; empty where it has not the format that can be compared."""
        return self.at if _TIME.fullmatch(self.at) else ""


def time_text(seconds: int, microseconds: int) -> str:
    """Format a time since 1970 as values have it."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    return moment.isoformat(timespec="microseconds")


class RedisValues:
    """Values of one key: read with their checks, and written with a signature."""

    def __init__(self, place: str, scope: str, keys: FlagKeys | None) -> None:
        """Make a reader and writer of values.

        Args:
            place: name of the key and its server, for messages.
            scope: name of the key, which the signature covers.
            keys: of the signature; None: values have none, and each is taken.
        """
        self._place = place
        self._scope = scope
        self._keys = keys

    def parse(self, raw: bytes | str) -> FlagValue:
        """Parse and check a value.

        Raises:
            ConfigError: it is no value of a flag.
            UnsignedFlag: it has no signature, and must have one.
            ForgedFlag: its signature is wrong.
        """
        if len(raw) > LONGEST_VALUE:
            raise ConfigError(
                f"{self._place} holds more than {LONGEST_VALUE:,} bytes, which is no phase. "
                "Set the phase again: pend-storage phase set PHASE."
            )
        try:
            text = raw if isinstance(raw, str) else raw.decode()
            word = text.strip()
            value = (
                msgspec.json.decode(word, type=FlagValue)
                if word.startswith("{")
                else FlagValue(word)
            )
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            raise ConfigError(f"{self._place} holds no phase: {error}.") from None
        self._require_signed(value)
        parse_phase(value.phase, place=self._place)
        self.require_past(value)
        return value

    def _require_signed(self, value: FlagValue) -> None:
        if self._keys is None:
            return
        if not value.mac:
            raise UnsignedFlag(
                f"{self._place} holds a value without a signature, and this process has a "
                "key: the value was set by hand, or by a program without the key. Set the "
                "phase again, with the key: pend-storage phase set PHASE."
            )
        if not self._keys.is_signed(
            value.mac, self._scope, value.phase, value.version, value.at, value.by
        ):
            raise ForgedFlag(
                f"{self._place} holds a value with a wrong signature: it was made up or "
                "changed, is of another key of Redis, or was signed by a key that this "
                "process does not have. Find out who may write the key. Set the phase "
                "again: pend-storage phase set PHASE."
            )

    def require_past(self, value: FlagValue) -> None:
        """Refuse a value from the far future.

        Raises:
            ConfigError: its time is more than a day from now.
        """
        latest = (datetime.now(UTC) + _FUTURE).isoformat(timespec="microseconds")
        if value.time > latest:
            raise ConfigError(
                f"{self._place} holds a value of the time {value.time}, which is in the "
                "future. Correct the clock of Redis or of this machine, and set the phase "
                "again: pend-storage phase set PHASE."
            )

    def desired(self, value: FlagValue) -> DesiredPhase:
        """Return the desired phase of a checked value."""
        return DesiredPhase(
            Phase(value.phase),
            self._place,
            value.version,
            value.time,
            is_signed=self._keys is not None,
        )

    def present_version(self, raw: bytes | str | None, above: int) -> int:
        """Return the version that the next value must be above; 0 for what is no value.

        Args:
            raw: the present value of the key; None: there is none.
            above: highest version that is known to have been followed.
        """
        try:
            version = 0 if raw is None else self.parse(raw).version
        except ConfigError:
            version = self._unchecked_version(raw)
        is_plausible = not above or version <= above + LARGEST_JUMP
        return version if version < HIGHEST_VERSION and is_plausible else 0

    def _unchecked_version(self, raw: bytes | str | None) -> int:
        """Return the version of a value without a phase; of an untrusted one, 0."""
        if self._keys is not None or raw is None or len(raw) > LONGEST_VALUE:
            return 0
        try:
            return msgspec.json.decode(raw, type=_Versioned).version
        except (UnicodeDecodeError, msgspec.DecodeError):
            return 0

    def make(self, phase: Phase, version: int, *, by: str, at: str) -> FlagValue:
        """Make a value, with a signature where there is a key."""
        name = by.encode(errors="replace").decode()[:_LONGEST_NAME]
        value = FlagValue(phase.value, version, name, at)
        if self._keys is None:
            return value
        mac = self._keys.sign(self._scope, phase.value, version, at, name)
        return msgspec.structs.replace(value, mac=mac)


class _Versioned(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_VERSION)] = 0
