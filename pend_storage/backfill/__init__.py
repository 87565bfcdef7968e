"""Backfill: copy one store into another in key order, resumable, in bounded memory."""

from pend_storage.backfill.report import BackfillReport, FileTally, Tally
from pend_storage.backfill.run import BACKFILL_META, backfill

__all__ = ["BACKFILL_META", "BackfillReport", "FileTally", "Tally", "backfill"]
