"""The pair of stores as the package offers it: able to backfill and to validate."""

from __future__ import annotations

from typing_extensions import override

from pend_storage import dualwrite
from pend_storage.backfill import backfill
from pend_storage.dualwrite.maintenance import Backfill, Validate
from pend_storage.validation import validate

__all__ = ["DualWriteStore"]


class DualWriteStore(dualwrite.DualWriteStore):
    """Keeps a JSON store and a PostgreSQL store alike, and moves between phases.

    Any two stores that keep the contract and share a schema will do. A fresh pair starts
    ``json-only``; or ``postgres-only`` where PostgreSQL was written to before and JSON is
    empty.

    Nothing else need be wired: :meth:`backfill` copies by
    :func:`pend_storage.backfill.backfill`, and :meth:`validate` compares by
    :func:`pend_storage.validation.validate`, unless other functions are passed.
    """

    @override
    def _default_jobs(self) -> tuple[Backfill, Validate]:
        return backfill, validate
