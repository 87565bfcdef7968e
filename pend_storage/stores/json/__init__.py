"""The JSON store: a journal, snapshots, and legacy files that follow."""

from pend_storage.stores.json.compaction import Retention
from pend_storage.stores.json.home import OWN_DIRECTORY, has_store
from pend_storage.stores.json.intake import AdoptedFile
from pend_storage.stores.json.store import JsonStore
from pend_storage.stores.json.strangers import DATA, keeper_of, unclaimed

__all__ = [
    "DATA",
    "OWN_DIRECTORY",
    "AdoptedFile",
    "JsonStore",
    "Retention",
    "has_store",
    "keeper_of",
    "unclaimed",
]
