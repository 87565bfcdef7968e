"""Catalogue of the irregular records in the files of Pend servers."""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Final

from pend_storage.sample_data.irregular import admin, explorer, server
from pend_storage.sample_data.irregular.changes import (
    ChangeContext,
    Expected,
    Irregularity,
)

__all__ = ["IRREGULARITIES", "ChangeContext", "Expected", "Irregularity"]

IRREGULARITIES: Final[Mapping[str, Irregularity]] = MappingProxyType(
    {
        each.name: each
        for each in chain(
            server.wallets(),
            admin.opportunities(),
            admin.admin_logs(),
            server.consents(),
            server.credentials(),
            server.server_logs(),
            server.kyc(),
            server.pool_tiers(),
            explorer.transactions(),
            explorer.persistent(),
            explorer.directory(),
            explorer.others(),
        )
    }
)
"""Every irregularity by its name, such as ``wallet-db/key-without-0x``."""
