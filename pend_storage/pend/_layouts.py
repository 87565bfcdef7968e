"""Layouts of the Pend server's legacy files; users first, as others refer to them."""

from __future__ import annotations

import functools
from typing import Final

from pend_storage.legacy import LIST, MAP, WRAPPED, RecordLayout
from pend_storage.pend._files import (
    admin_logs,
    directory,
    events,
    kyc,
    opportunities,
    wallets,
)
from pend_storage.pend._files.documents import DocumentMapping

__all__ = ["LAYOUTS"]

# The server's data has files of 0 bytes where there was never a record.
_layout: Final = functools.partial(RecordLayout, blank_is_empty=True)
_ANY: Final = (MAP, LIST)
"""Shapes of files that no document describes: an object or a list."""


def _documents(
    file: str, *shapes: str, wrapper: str | None = None, newest_first: bool = False
) -> RecordLayout:
    return _layout(
        file,
        DocumentMapping(file),
        shapes=shapes or _ANY,
        wrapper=wrapper,
        newest_first=newest_first,
    )


LAYOUTS: Final = (
    _layout(wallets.FILE, wallets.WalletMapping(), shapes=(MAP,)),
    _layout(directory.FILE, directory.DirectoryMapping(), shapes=(LIST, MAP)),
    _layout(kyc.FILE, kyc.KycMapping(), shapes=(MAP,)),
    _layout(
        opportunities.FILE,
        opportunities.OpportunityMapping(),
        shapes=(WRAPPED, LIST),
        wrapper=opportunities.WRAPPER,
    ),
    _layout(
        events.TRANSACTIONS_LOG,
        events.EventMapping(),
        shapes=(LIST,),
        newest_first=True,
    ),
    _layout(
        events.PERSISTENT,
        events.CollectedMapping(),
        shapes=(LIST,),
        newest_first=True,
    ),
    _layout(
        admin_logs.FILE,
        admin_logs.AdminLogMapping(),
        shapes=(WRAPPED, LIST),
        wrapper=admin_logs.WRAPPER,
    ),
    _documents("server-logs.json", WRAPPED, LIST, wrapper="logs"),
    _documents("consents-db.json"),
    _documents("credentials-db.json"),
    _documents("admin-pool-tiers.json"),
    _documents("explorer-data/live-stats.json"),
    _documents("explorer-data/identity-map.json"),
    _documents("explorer-data/enhanced-historical-data.json"),
    _documents("explorer-data/data-backup.json"),
    _documents(
        "explorer-data/full-chain-history.json", WRAPPED, LIST, MAP, wrapper="blocks"
    ),
)
"""One layout for each legacy file, in the order that adopts references first."""
