"""Which files of a JSON directory are the server's, before any store has opened it."""

from __future__ import annotations

from pathlib import Path

from pend_storage._records import EDIT_MARK, QuarantinedRecord
from pend_storage.backup import Keeps
from pend_storage.config import JsonSettings
from pend_storage.errors import ConfigError
from pend_storage.factory import SchemaModule
from pend_storage.query import field
from pend_storage.shown import did_you_mean, listed, shown
from pend_storage.store import Store
from pend_storage.stores.json import DATA, keeper_of, unclaimed

__all__ = ["kept_files", "require_file", "unclaimed_files"]


def kept_files(module: SchemaModule, wanted: JsonSettings) -> Keeps:
    """What of a directory belongs to a copy: claimed files, data, and the store's own."""
    return keeper_of(
        _claimed(module), DATA if wanted.include is None else wanted.include
    )


def unclaimed_files(module: SchemaModule, wanted: JsonSettings) -> tuple[Path, ...]:
    """The data files of a directory that no layout claims; none where they are ignored."""
    if wanted.unclaimed == "ignore":
        return ()
    claimed = {wanted.directory / name for name in _claimed(module)}
    included = DATA if wanted.include is None else wanted.include
    return tuple(unclaimed(wanted.directory, claimed, included))


def require_file(store: Store, name: str) -> None:
    """See that a layout claims a file of this name, or that something of it waits.

    Raises:
        ConfigError: neither is so; the message suggests a name.
    """
    known = [layout.file for layout in store.layouts]
    where = field("file").in_([name, f"{name}{EDIT_MARK}"])
    if name not in known and not store.collection(QuarantinedRecord).count(where):
        raise ConfigError(
            f"there is no legacy file {shown(name)}{did_you_mean(name, known)} The files "
            f"are: {listed(known)}."
        )


def _claimed(module: SchemaModule) -> list[str]:
    """The files of the layouts, and those of collections that have none."""
    names = [layout.source for layout in module.layouts]
    for spec in module.schema:
        names += [f"{spec.name}.json", f"{spec.name}.rows.json"]
    return names
