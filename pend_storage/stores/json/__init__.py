"""JSON store: a journal of commits, snapshots, and legacy files synchronised with them."""

from pend_storage.stores.json._journal.compaction import Retention
from pend_storage.stores.json._legacy_sync.initial_import import AdoptedFile
from pend_storage.stores.json._passive import PassiveJsonStore
from pend_storage.stores.json._store import JsonStore
from pend_storage.stores.json._store_directory import (
    OWN_DIRECTORY,
    has_store,
    journal_size,
)
from pend_storage.stores.json._unclaimed_files import DATA, keeper_of, unclaimed

__all__ = [
    "DATA",
    "OWN_DIRECTORY",
    "AdoptedFile",
    "JsonStore",
    "PassiveJsonStore",
    "Retention",
    "has_store",
    "journal_size",
    "keeper_of",
    "unclaimed",
]
