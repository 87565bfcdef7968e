"""Restored stores: what is recorded in a store that was filled from a backup.

A restored store is *sealed*: no process may use it until it is promoted. Its meta entry
:data:`~pend_storage._model.snapshots.RESTORED_META` is there from before the first row, and
stays after the promotion, as a record.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pend_storage._model.records import JSON
from pend_storage._model.snapshots import RESTORED_META, LogPoint
from pend_storage._shown import clause, cut, shown
from pend_storage.contract import StoreBackend
from pend_storage.errors import ConfigError

__all__ = ["RestoreNote", "note_of", "require_usable", "unusable_reason"]


class RestoreNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value of the meta entry of a restored store."""

    source: str = msgspec.field(name="from")
    """Identity of the store whose state this is."""
    epoch: int
    """Of the source, at the position that was restored."""
    sequence: int
    """Up to which the source's log is in this store."""
    above: int
    """Number that was reserved: later commits are numbered above it."""
    at: str
    """Time of the restore, ISO 8601, UTC."""
    backup: str
    """Id of the backup that was restored."""
    target: str
    """Target as it was given: ``latest``, a time, ``before:4711``."""
    identity: str | None = None
    """Identity that this store was given; None until it is sealed."""
    state: Literal["filling", "sealed", "promoted"] = "sealed"
    promoted: int | None = None
    """Epoch at which it became, or is to become, primary."""

    @property
    def point(self) -> LogPoint:
        """Position of the source that was restored."""
        return LogPoint(identity=self.source, epoch=self.epoch, sequence=self.sequence)

    def to_meta(self) -> JSON:
        """Return the meta value."""
        value: JSON = msgspec.to_builtins(self)
        return value

    @classmethod
    def parse(cls, value: JSON) -> RestoreNote | None:
        """Parse a meta value; None: it was never set.

        Raises:
            ConfigError: a newer version of the library wrote it.
        """
        if value is None:
            return None
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise ConfigError(
                "the store was restored by a newer version of pend_storage: what it "
                f"records about that cannot be read ({cut(str(error))}). Upgrade it."
            ) from error


def note_of(store: StoreBackend) -> RestoreNote | None:
    """Return the record of a restored store; None for any other one.

    Raises:
        ConfigError: a newer version of the library wrote it.
        StoreUnavailable: the store cannot be reached.
    """
    return RestoreNote.parse(store.meta(RESTORED_META))


def unusable_reason(store: StoreBackend, name: str) -> str | None:
    """Return a sentence on why a restored store may not be used yet; None where it may.

    Args:
        store: any store.
        name: of the store, for the sentence: ``the database``.

    Raises: as :func:`note_of`.
    """
    note = note_of(store)
    if note is None or note.state == "promoted":
        return None
    origin = f"{name} was restored from the backup {shown(note.backup)}"
    if note.state == "filling":
        return (
            f"{origin}, and the restore did not end: it holds a part of the data only. "
            "Empty it, and restore again."
        )
    return (
        f"{origin} ({clause(cut(note.target))}), and was not promoted: it may not be "
        "used yet. Look at it with `pend-storage backup diff`, then promote it: "
        "`pend-storage backup promote`."
    )


def require_usable(store: StoreBackend, name: str) -> None:
    """Refuse a store that was restored and not promoted; args as above.

    Raises:
        ConfigError: it may not be used yet.
        StoreUnavailable: it cannot be reached.
    """
    reason = unusable_reason(store, name)
    if reason is not None:
        raise ConfigError(reason)
