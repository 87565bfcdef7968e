"""Knobs: settings of a running environment that are changed without a restart. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

import msgspec

from pend_storage._model.records import JSON
from pend_storage._shown import did_you_mean, shown
from pend_storage.errors import ConfigError

__all__ = [
    "BACKFILL_RATE",
    "CANARY",
    "COMPARE",
    "KNOBS",
    "NO_KNOBS",
    "RELAY_BATCH",
    "TUNING_META",
    "KnobKind",
    "Knobs",
    "RateLimit",
    "Setting",
    "change_knob",
    "kind_of",
    "parse_knobs",
]

TUNING_META: Final = "tuning"
"""Shared meta entry of a pair: the knobs that were set, with who set them and why."""
_VERSION: Final = 1

COMPARE: Final = "dual_write.compare"
CANARY: Final = "dual_write.canary"
BACKFILL_RATE: Final = "backfill.rate"
RELAY_BATCH: Final = "relay.batch"


@runtime_checkable
class RateLimit(Protocol):
    """Limit of a long job's rate that may change while it runs."""

    def limit(self, given: float | None, /) -> float | None:
        """Return the records per second at most; 0: pause, None: no limit.

        Args:
            given: the limit with which the job was started.
        """


@dataclass(frozen=True, slots=True)
class KnobKind:
    """Kind of a knob: its name, the range of its values, and its meaning."""

    name: str
    least: float
    most: float
    meaning: str
    is_whole: bool = False
    """Whether its values are whole numbers."""
    has_collections: bool = False
    """Whether there is also one for each collection: ``NAME.COLLECTION``."""

    def check(self, value: float) -> float:
        """Return a value that is within the range.

        Raises:
            ConfigError: it is not.
        """
        # NaN fails both comparisons.
        if not self.least <= value <= self.most:
            raise ConfigError(
                f"{self.name} must be a number from {self.least:g} to {self.most:g}, not "
                f"{value:g}."
            )
        if self.is_whole and value != int(value):
            raise ConfigError(f"{self.name} must be a whole number, not {value:g}.")
        return value


KNOBS: Final[Mapping[str, KnobKind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            KnobKind(
                COMPARE,
                0,
                1,
                "share of the reads that are compared with the secondary",
                has_collections=True,
            ),
            KnobKind(
                CANARY,
                0,
                1,
                "share of the keys whose reads the secondary answers where both agree",
            ),
            KnobKind(
                BACKFILL_RATE,
                0,
                1e9,
                "records per second of a backfill at most; 0 pauses it",
            ),
            KnobKind(
                RELAY_BATCH,
                1,
                1_000,
                "records that the relay applies in one call at most",
                is_whole=True,
            ),
        )
    }
)
"""Every kind of knob, by its name."""


class Setting(msgspec.Struct, frozen=True):
    """Value of a knob, with who set it, why, and when."""

    value: float | None
    """None: it was reset, and the configuration decides."""
    by: str
    reason: str
    at: str
    """ISO 8601, in UTC."""

    @property
    def time(self) -> datetime:
        """Time of the change."""
        return datetime.fromisoformat(self.at)


class _Stored(msgspec.Struct):
    version: int
    knobs: dict[str, Setting]


@dataclass(frozen=True, slots=True)
class Knobs:
    """Knobs that are set; the configuration decides the others. Immutable."""

    settings: Mapping[str, Setting]

    def value(self, name: str) -> float | None:
        """Return the value of a knob; None where it is not set."""
        found = self.settings.get(name)
        return None if found is None else found.value

    def by_collection(self, name: str) -> dict[str, float]:
        """Return the values of a knob that are set for single collections."""
        start = f"{name}."
        return {
            key[len(start) :]: setting.value
            for key, setting in self.settings.items()
            if key.startswith(start) and setting.value is not None
        }

    def with_setting(self, name: str, setting: Setting) -> Knobs:
        """Return the knobs with one that is set, or reset."""
        return Knobs({**self.settings, name: setting})

    def to_meta(self) -> JSON:
        """Return the value of the meta entry."""
        stored: JSON = msgspec.to_builtins(_Stored(_VERSION, {**self.settings}))
        return stored


NO_KNOBS: Final = Knobs({})


def parse_knobs(value: JSON) -> Knobs:
    """Parse the meta entry :data:`TUNING_META`.

    Raises:
        ConfigError: a newer version has written it.
    """
    if value is None:
        return NO_KNOBS
    version = value.get("version") if isinstance(value, Mapping) else None
    if version != _VERSION:
        raise ConfigError(
            f"the knobs of this environment have the version {shown(version)}, and this "
            f"program knows version {_VERSION}: a newer one has set them. Upgrade this one."
        )
    return Knobs(msgspec.convert(value, _Stored).knobs)


def change_knob(
    read: Callable[[], JSON],
    replace_value: Callable[[JSON, JSON], bool],
    name: str,
    setting: Setting,
) -> None:
    """Set a knob, or reset it; those that others set at the same time stay.

    Args:
        read: returns the meta entry :data:`TUNING_META`.
        replace_value: replaces the entry if it is as expected.
        name: of the knob.
        setting: the new one.

    Raises:
        ConfigError: a newer version has set knobs.
    """
    while True:
        found = read()
        after = parse_knobs(found).with_setting(name, setting).to_meta()
        if replace_value(found, after):
            return


def kind_of(name: str, collections: Iterable[str]) -> KnobKind:
    """Return the kind of a knob.

    Args:
        name: of the knob: ``dual_write.compare``, ``dual_write.compare.users``.
        collections: of the schema.

    Raises:
        ConfigError: there is no such knob; the message suggests one.
    """
    kind = KNOBS.get(name)
    if kind is not None:
        return kind
    names = [*KNOBS]
    for base in KNOBS.values():
        if base.has_collections:
            names += [f"{base.name}.{each}" for each in collections]
            if name.startswith(f"{base.name}.") and name in names:
                return replace(base, name=name)
    raise ConfigError(
        f"there is no knob {shown(name)}{did_you_mean(name, names)} The knobs are: "
        f"{', '.join(KNOBS)}, and {COMPARE}.COLLECTION."
    )
