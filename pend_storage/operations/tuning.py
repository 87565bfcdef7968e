"""Tuning of a running environment: its knobs, set without a restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from pend_storage._audit_record import record_done
from pend_storage._model.knobs import (
    CANARY,
    COMPARE,
    KNOBS,
    TUNING_META,
    KnobKind,
    Setting,
    change_knob,
    kind_of,
    parse_knobs,
)
from pend_storage._model.records import JSON
from pend_storage._shown import one_line
from pend_storage.config import Settings
from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import ConfigError
from pend_storage.factory import open_passive
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["Knob", "find_knob", "knobs", "read_knobs", "reset_knob", "set_knob"]

_MOST_NAME: Final = 200
_MOST_REASON: Final = 1_000
"""Characters of an actor, and of a reason, that are kept."""


class PairMeta(Protocol):
    """Named values of a pair: the pair itself, or a passive reader of it."""

    def meta(self, name: str) -> JSON:
        """Return one value; None if it was never set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One knob: its value in running processes, and who set it."""

    name: str
    """``dual_write.compare``, ``dual_write.compare.users``, ``backfill.rate``, ..."""
    meaning: str
    value: float | None
    """Value that counts; None: no limit, or that of the library."""
    configured: float | None
    """Value by the configuration, which counts where the knob is not set."""
    is_set: bool
    by: str | None = None
    """Actor of the last change, also of a reset."""
    reason: str | None = None
    at: datetime | None = None


def knobs(store: PairMeta, settings: Settings | None = None) -> tuple[Knob, ...]:
    """List the knobs of an environment: every kind, and those set for collections.

    Args:
        store: the pair, or a passive reader of it.
        settings: of the environment, for the values by the configuration; None: they are
            left out.

    Raises:
        ConfigError: a newer version has set them, or the environment has one store.
        StoreUnavailable: the primary cannot be reached.
    """
    _require_pair(store)
    found = parse_knobs(store.meta(TUNING_META)).settings
    return tuple(
        # A knob may be that of a collection which the schema has no more.
        _knob(_kind(name, [name.rpartition(".")[2]]), found.get(name), settings)
        for name in sorted({*KNOBS, *found})
    )


def read_knobs(settings: Settings) -> tuple[Knob, ...]:
    """List the knobs of an environment as :func:`knobs` does; nothing is changed.

    Args:
        settings: of the environment; both sides must be configured.

    Raises:
        ConfigError: a side is not configured, or a newer version has set knobs.
        StoreUnavailable: the primary cannot be reached.
    """
    settings.require_json()
    settings.require_postgres()
    with open_passive(settings) as environment:
        return knobs(environment.pair or _Unused(), settings)


class _Unused:
    """Stores that were never used as a pair: nothing is set."""

    def meta(self, _: str) -> JSON:
        """Return that there is no value."""
        return None


def find_knob(schema: Schema, listed: Iterable[Knob], name: str, /) -> Knob:
    """Return one of the listed knobs; one of a collection may be set nowhere.

    Args:
        schema: of the environment, for the names of its collections.
        listed: all knobs, as :func:`knobs` lists them.
        name: of the knob.

    Raises:
        ConfigError: there is no such knob; the message suggests one.
    """
    every = {knob.name: knob for knob in listed}
    if name in every:
        return every[name]
    kind = kind_of(name, [spec.name for spec in schema.declared])
    base = every[COMPARE]
    return Knob(
        name=name,
        meaning=kind.meaning,
        value=base.value,
        configured=base.configured,
        is_set=False,
    )


def set_knob(
    store: DualWriteStore,
    name: str,
    value: float,
    *,
    by: str,
    reason: str,
    settings: Settings | None = None,
) -> Knob:
    """Set a knob; every running process of the environment follows within 2 seconds.

    It survives restarts and switches, and counts before the configuration.

    Args:
        store: the pair.
        name: of the knob.
        value: the new one.
        by: actor, for the record.
        reason: of the change, for the record; may be empty.
        settings: of the environment, for the configured value in the result.

    Raises:
        ConfigError: there is no such knob, the value is out of its range, or the
            environment has one store.
        StoreUnavailable: the primary cannot be reached.
    """
    _require_pair(store)
    kind = kind_of(name, _collections(store))
    return _knob(kind, _change(store, name, kind.check(value), by, reason), settings)


def reset_knob(
    store: DualWriteStore,
    name: str,
    *,
    by: str,
    reason: str,
    settings: Settings | None = None,
) -> Knob:
    """Reset a knob: the configuration decides again. Harmless where it is not set.

    Args and errors: as :func:`set_knob`.
    """
    _require_pair(store)
    kind = kind_of(name, _collections(store))
    return _knob(kind, _change(store, name, None, by, reason), settings)


def _change(
    store: DualWriteStore, name: str, value: float | None, by: str, reason: str
) -> Setting:
    at = datetime.now(UTC).isoformat()
    setting = Setting(
        value, one_line(by, _MOST_NAME), one_line(reason, _MOST_REASON), at
    )
    change_knob(
        partial(store.meta, TUNING_META),
        partial(store.compare_and_set_meta, TUNING_META),
        name,
        setting,
    )
    details = {"knob": name, "value": value}
    record_done(store, "tune", by=setting.by, reason=setting.reason, details=details)
    return setting


def _require_pair(store: object) -> None:
    if isinstance(store, Store) and not isinstance(store, DualWriteStore):
        raise ConfigError(
            "knobs are those of a pair of stores, and this environment has one store: "
            "configure json.directory and postgres.url."
        )


def _collections(store: DualWriteStore) -> list[str]:
    return [spec.name for spec in store.schema.declared]


def _kind(name: str, collections: Iterable[str]) -> KnobKind:
    try:
        return kind_of(name, collections)
    except ConfigError:  # set by a version that had more of them
        return KnobKind(name, 0, 0, "not a knob of this version")


def _configured(settings: Settings | None) -> Mapping[str, float]:
    if settings is None:
        return {}
    wanted = settings.dual_write
    return {COMPARE: wanted.compare, CANARY: wanted.canary}


def _knob(kind: KnobKind, setting: Setting | None, settings: Settings | None) -> Knob:
    by_file = _configured(settings)
    base = COMPARE if kind.name.startswith(f"{COMPARE}.") else kind.name
    plain = by_file.get(base)
    if setting is None:
        return Knob(
            name=kind.name,
            meaning=kind.meaning,
            value=plain,
            configured=plain,
            is_set=False,
        )
    is_set = setting.value is not None
    return Knob(
        name=kind.name,
        meaning=kind.meaning,
        value=setting.value if is_set else plain,
        configured=plain,
        is_set=is_set,
        by=setting.by,
        reason=setting.reason,
        at=setting.time,
    )
