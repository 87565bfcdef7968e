"""The Pend server: its records, its collections and its legacy files.

``SCHEMA`` and ``LAYOUTS`` are what a store is opened with; the record types are what it
holds. Investments are in no legacy file: they start empty, and
:func:`derive_investments` makes them from events where that is wanted.
"""

from pend_storage.pend._investments import DerivedInvestments, derive_investments
from pend_storage.pend._layouts import LAYOUTS
from pend_storage.pend._schema import SCHEMA
from pend_storage.pend.records import (
    AdminLog,
    Asset,
    BlockchainEvent,
    Document,
    Investment,
    KycApplication,
    User,
    UserProfile,
)

__all__ = [
    "LAYOUTS",
    "SCHEMA",
    "AdminLog",
    "Asset",
    "BlockchainEvent",
    "DerivedInvestments",
    "Document",
    "Investment",
    "KycApplication",
    "User",
    "UserProfile",
    "derive_investments",
]
