"""Move a live server from JSON files to PostgreSQL and back, with nothing lost.

.. code-block:: python

    import pend_storage as ps

    store = ps.open_store("pend.toml", environment="production")
    users = store.collection("users")

The public names are those in ``__all__``. Each is loaded when it is first used, so that
importing the package is quick, and needs no optional package.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

if TYPE_CHECKING:
    from pend_storage._records import (
        JSON,
        Advance,
        Batch,
        Change,
        ChangedRecord,
        LegacyFile,
        Page,
        Pending,
        QuarantinedRecord,
        Versioned,
    )
    from pend_storage.aio import AsyncCollection, AsyncStore, AsyncTransaction
    from pend_storage.backfill.report import BackfillReport
    from pend_storage.dualwrite import (
        Blocker,
        Finding,
        Lag,
        Readiness,
        RepairReport,
        Switch,
        SwitchReport,
    )
    from pend_storage.errors import (
        ChangesExpired,
        ConfigError,
        Conflict,
        CorruptFile,
        InvalidQuery,
        InvalidRecord,
        LockTimeout,
        MergeConflict,
        PendStorageError,
        ReferenceViolation,
        SchemaOutOfDate,
        StaleEpoch,
        StalePosition,
        StoreUnavailable,
        SwitchRefused,
        SwitchTimeout,
        UniqueViolation,
        UnknownCollection,
    )
    from pend_storage.events import Event, Hook, log_event
    from pend_storage.evolving import Evolve
    from pend_storage.factory import DualWriteStore, open_store
    from pend_storage.fields import Limit
    from pend_storage.layout import Layout
    from pend_storage.legacy.declared_keys import MEMBER_NAME
    from pend_storage.legacy.document_files import DOCUMENTS, Document
    from pend_storage.legacy.file_envelope import JSON_LINES, LIST, MAP, OBJECT, SCALAR
    from pend_storage.legacy.layout import RecordLayout
    from pend_storage.legacy.members import Member, ObjectMapping
    from pend_storage.legacy.record_files import documents, records, schema_of
    from pend_storage.live import json_default
    from pend_storage.phases import Phase, Role, RoleState
    from pend_storage.query import field
    from pend_storage.schema import CollectionSpec, Schema, collection
    from pend_storage.store import Store
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.memory import MemoryStore
    from pend_storage.stores.postgres import PostgresStore
    from pend_storage.transaction import Transaction
    from pend_storage.validation import ValidationReport

__all__ = [
    "DOCUMENTS",
    "JSON",
    "JSON_LINES",
    "LIST",
    "MAP",
    "MEMBER_NAME",
    "OBJECT",
    "SCALAR",
    "Advance",
    "AsyncCollection",
    "AsyncStore",
    "AsyncTransaction",
    "BackfillReport",
    "Batch",
    "Blocker",
    "Change",
    "ChangedRecord",
    "ChangesExpired",
    "CollectionSpec",
    "ConfigError",
    "Conflict",
    "CorruptFile",
    "Document",
    "DualWriteStore",
    "Event",
    "Evolve",
    "Finding",
    "Hook",
    "InvalidQuery",
    "InvalidRecord",
    "JsonStore",
    "Lag",
    "Layout",
    "LegacyFile",
    "Limit",
    "LockTimeout",
    "Member",
    "MemoryStore",
    "MergeConflict",
    "ObjectMapping",
    "Page",
    "PendStorageError",
    "Pending",
    "Phase",
    "PostgresStore",
    "QuarantinedRecord",
    "Readiness",
    "RecordLayout",
    "ReferenceViolation",
    "RepairReport",
    "Role",
    "RoleState",
    "Schema",
    "SchemaOutOfDate",
    "StaleEpoch",
    "StalePosition",
    "Store",
    "StoreUnavailable",
    "Switch",
    "SwitchRefused",
    "SwitchReport",
    "SwitchTimeout",
    "Transaction",
    "UniqueViolation",
    "UnknownCollection",
    "ValidationReport",
    "Versioned",
    "collection",
    "documents",
    "field",
    "json_default",
    "log_event",
    "open_store",
    "records",
    "schema_of",
]

_HOME: Final = {
    "Advance": "pend_storage._records",
    "AsyncCollection": "pend_storage.aio",
    "AsyncStore": "pend_storage.aio",
    "AsyncTransaction": "pend_storage.aio",
    "BackfillReport": "pend_storage.backfill.report",
    "Batch": "pend_storage._records",
    "Blocker": "pend_storage.dualwrite",
    "Change": "pend_storage._records",
    "ChangedRecord": "pend_storage._records",
    "ChangesExpired": "pend_storage.errors",
    "CollectionSpec": "pend_storage.schema",
    "ConfigError": "pend_storage.errors",
    "Conflict": "pend_storage.errors",
    "CorruptFile": "pend_storage.errors",
    "DOCUMENTS": "pend_storage.legacy.document_files",
    "Document": "pend_storage.legacy.document_files",
    "DualWriteStore": "pend_storage.factory",
    "Event": "pend_storage.events",
    "Evolve": "pend_storage.evolving",
    "Finding": "pend_storage.dualwrite",
    "Hook": "pend_storage.events",
    "InvalidQuery": "pend_storage.errors",
    "InvalidRecord": "pend_storage.errors",
    "JSON": "pend_storage._records",
    "JSON_LINES": "pend_storage.legacy.file_envelope",
    "JsonStore": "pend_storage.stores.json",
    "LIST": "pend_storage.legacy.file_envelope",
    "Lag": "pend_storage.dualwrite",
    "Layout": "pend_storage.layout",
    "LegacyFile": "pend_storage._records",
    "Limit": "pend_storage.fields",
    "LockTimeout": "pend_storage.errors",
    "MAP": "pend_storage.legacy.file_envelope",
    "MEMBER_NAME": "pend_storage.legacy.declared_keys",
    "Member": "pend_storage.legacy.members",
    "MemoryStore": "pend_storage.stores.memory",
    "OBJECT": "pend_storage.legacy.file_envelope",
    "ObjectMapping": "pend_storage.legacy.members",
    "MergeConflict": "pend_storage.errors",
    "Page": "pend_storage._records",
    "PendStorageError": "pend_storage.errors",
    "Pending": "pend_storage._records",
    "Phase": "pend_storage.phases",
    "PostgresStore": "pend_storage.stores.postgres",
    "QuarantinedRecord": "pend_storage._records",
    "Readiness": "pend_storage.dualwrite",
    "RecordLayout": "pend_storage.legacy.layout",
    "ReferenceViolation": "pend_storage.errors",
    "RepairReport": "pend_storage.dualwrite",
    "Role": "pend_storage.phases",
    "RoleState": "pend_storage.phases",
    "SCALAR": "pend_storage.legacy.file_envelope",
    "Schema": "pend_storage.schema",
    "SchemaOutOfDate": "pend_storage.errors",
    "StaleEpoch": "pend_storage.errors",
    "StalePosition": "pend_storage.errors",
    "Store": "pend_storage.store",
    "StoreUnavailable": "pend_storage.errors",
    "Switch": "pend_storage.dualwrite",
    "SwitchRefused": "pend_storage.errors",
    "SwitchReport": "pend_storage.dualwrite",
    "SwitchTimeout": "pend_storage.errors",
    "Transaction": "pend_storage.transaction",
    "UniqueViolation": "pend_storage.errors",
    "UnknownCollection": "pend_storage.errors",
    "ValidationReport": "pend_storage.validation",
    "Versioned": "pend_storage._records",
    "collection": "pend_storage.schema",
    "documents": "pend_storage.legacy.record_files",
    "field": "pend_storage.query",
    "json_default": "pend_storage.live",
    "log_event": "pend_storage.events",
    "open_store": "pend_storage.factory",
    "records": "pend_storage.legacy.record_files",
    "schema_of": "pend_storage.legacy.record_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from pend_storage.extras import missing_package

        missing = missing_package(error, user=name)
        if missing is None:
            raise
        raise missing from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_FUNCTIONS: Final = frozenset({"collection", "records"})
"""Functions of which a module has the name."""


class _Package(ModuleType):
    """Keeps the names of functions for them, when their namesakes are loaded."""

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _FUNCTIONS or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
