"""Tuning of a running environment: its knobs, set without a restart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pend_storage._model.knobs import (
    COMPARE,
    KNOBS,
    TUNING_META,
    KnobKind,
    Setting,
    kind_of,
    parse_knobs,
)
from pend_storage._shown import one_line
from pend_storage.config import Settings
from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import ConfigError

__all__ = ["Knob", "knobs", "reset_knob", "set_knob"]

_MOST_REASON = 1_000
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One knob: its value in running processes, and who set it."""

    name: str
    """``dual_write.compare``, ``dual_write.compare.users``, ``backfill.rate``, ..."""
    meaning: str
    value: float | None
    """Value that counts; None: no limit, or not known here."""
    configured: float | None
    """Value by the configuration, which counts where the knob is not set."""
    is_set: bool
    by: str | None = None
    reason: str | None = None
    at: datetime | None = None


def knobs(store: DualWriteStore, settings: Settings | None = None) -> tuple[Knob, ...]:
    """List the knobs of an environment: every kind, and those set for collections.

    Args:
        store: the pair.
        settings: of the environment, for the values by the configuration; None: they are
            left out.

    Raises:
        ConfigError: a newer version has set them.
        StoreUnavailable: the primary cannot be reached.
    """
    found = parse_knobs(_pair(store).meta(TUNING_META))
    configured = _configured(settings)
    collections = [spec.name for spec in store.schema.declared]
    names = sorted({*KNOBS, *found.settings})
    return tuple(
        _knob(
            kind_of(name, [*collections, name.rpartition(".")[2]]),
            name,
            found.settings.get(name),
            configured,
        )
        for name in names
    )


def set_knob(
    store: DualWriteStore, name: str, value: float, *, by: str, reason: str
) -> Knob:
    """Set a knob; every running process of the environment follows within 2 seconds.

    It survives restarts and switches, and counts before the configuration.

    Args:
        store: the pair.
        name: of the knob.
        value: the new one.
        by: actor, for the record.
        reason: of the change, for the record; may be empty.

    Raises:
        ConfigError: there is no such knob, or the value is out of its range.
        StoreUnavailable: the primary cannot be reached.
    """
    kind = kind_of(name, [spec.name for spec in _pair(store).schema.declared])
    setting = _change(store, name, kind.check(value), by, reason)
    return _knob(kind, name, setting, {})


def reset_knob(store: DualWriteStore, name: str, *, by: str, reason: str) -> Knob:
    """Reset a knob: the configuration decides again. Harmless where it is not set.

    Args and errors: as :func:`set_knob`.
    """
    kind = kind_of(name, [spec.name for spec in _pair(store).schema.declared])
    setting = _change(store, name, None, by, reason)
    return _knob(kind, name, setting, {})


def _change(
    store: DualWriteStore, name: str, value: float | None, by: str, reason: str
) -> Setting:
    at = datetime.now(UTC).isoformat()
    setting = Setting(value, one_line(by), one_line(reason, _MOST_REASON), at)
    while True:
        found = store.meta(TUNING_META)
        after = parse_knobs(found).with_setting(name, setting).to_meta()
        if store.compare_and_set_meta(TUNING_META, found, after):
            return setting


def _pair(store: object) -> DualWriteStore:
    if not isinstance(store, DualWriteStore):
        raise ConfigError(
            "knobs are those of a pair of stores, and this environment has one store: "
            "configure json.directory and postgres.url."
        )
    return store


def _configured(settings: Settings | None) -> dict[str, float]:
    if settings is None:
        return {}
    wanted = settings.dual_write
    return {COMPARE: wanted.compare}


def _knob(
    kind: KnobKind,
    name: str,
    setting: Setting | None,
    configured: dict[str, float],
) -> Knob:
    plain = configured.get(name, configured.get(kind.name))
    if setting is None:
        return Knob(
            name=name,
            meaning=kind.meaning,
            value=plain,
            configured=plain,
            is_set=False,
        )
    is_set = setting.value is not None
    return Knob(
        name=name,
        meaning=kind.meaning,
        value=setting.value if is_set else plain,
        configured=plain,
        is_set=is_set,
        by=setting.by,
        reason=setting.reason,
        at=setting.time,
    )
