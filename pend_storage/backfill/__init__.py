"""Backfill: copy one store into another in key order, resumable, in bounded memory."""

from pend_storage.backfill._backfill import BACKFILL_META, backfill
from pend_storage.backfill.report import BackfillReport, FileTally, Tally

__all__ = ["BACKFILL_META", "BackfillReport", "FileTally", "Tally", "backfill"]
