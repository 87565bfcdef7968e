"""Schema, record types and legacy file layouts of the Pend server.

``SCHEMA`` and ``LAYOUTS`` are the arguments that open a store; the record types are its
contents. Investments are in no legacy file: their collection starts empty, and
:func:`derive_investments` fills it from events on request.
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
