"""Values that stores exchange: rows, batches, changes, snapshots.

The module can be called, as ``ps.records(...)``: see
:func:`~pend_storage.legacy._record_files.records`.
"""

from __future__ import annotations

import sys

from pend_storage._callable_module import CallableModule
from pend_storage._model.audit import AuditEntry
from pend_storage._model.records import (
    BESIDE,
    EDIT_MARK,
    EDITED,
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Delete,
    FindingRecord,
    LegacyFile,
    Outcome,
    Page,
    Pending,
    Put,
    QuarantinedRecord,
    Row,
    Versioned,
)
from pend_storage._model.snapshots import (
    KeyChange,
    LogPoint,
    SnapshotReader,
    StoredChange,
    StoredRecord,
    StoredRow,
)
from pend_storage.legacy._record_files import records

__all__ = [
    "BESIDE",
    "EDITED",
    "EDIT_MARK",
    "JSON",
    "Advance",
    "AuditEntry",
    "Batch",
    "Change",
    "ChangedRecord",
    "Delete",
    "FindingRecord",
    "KeyChange",
    "LegacyFile",
    "LogPoint",
    "Outcome",
    "Page",
    "Pending",
    "Put",
    "QuarantinedRecord",
    "Row",
    "SnapshotReader",
    "StoredChange",
    "StoredRecord",
    "StoredRow",
    "Versioned",
    "records",
]

__wrapped__ = records
sys.modules[__name__].__class__ = CallableModule
