"""Store contract: the promises of every store, as tests.

Subclass :class:`StoreContract` in a test module, and define how a store is created::

    class TestMyStore(StoreContract):
        durable = True

        def make_store(self, schema):
            return MyStore(schema, ...)

pytest then runs every test of the contract on it. The tests are grouped by verb, in one
module each; :class:`~pend_storage.testing.contract._harness.Harness` has everything
that a backend overrides.
"""

from __future__ import annotations

from pend_storage.testing.contract._auditing import (
    AuditContract,
    AuditRetentionContract,
)
from pend_storage.testing.contract._changelog import ChangesContract
from pend_storage.testing.contract._concurrency import ConcurrencyContract
from pend_storage.testing.contract._feeding import ApplyContract, FollowContract
from pend_storage.testing.contract._grouping import CommitEachContract
from pend_storage.testing.contract._harness import Harness
from pend_storage.testing.contract._history import HistoryContract
from pend_storage.testing.contract._isolation import IsolationContract
from pend_storage.testing.contract._lifetime import (
    CloseContract,
    ProcessContract,
    ReopenContract,
)
from pend_storage.testing.contract._limits import LimitContract
from pend_storage.testing.contract._loading import (
    LoadChangesContract,
    LoadSnapshotContract,
    ReserveNumbersContract,
)
from pend_storage.testing.contract._locking import LockContract
from pend_storage.testing.contract._paging import OrderContract, PageContract
from pend_storage.testing.contract._purging import PurgingContract
from pend_storage.testing.contract._querying import (
    ConditionContract,
    JsonConditionContract,
)
from pend_storage.testing.contract._reading import (
    GetByContract,
    GetContract,
    GetManyContract,
    ReadContract,
)
from pend_storage.testing.contract._rules import ReferenceContract, UniqueContract
from pend_storage.testing.contract._scanning import ScanContract
from pend_storage.testing.contract._snapshots import SnapshotContract
from pend_storage.testing.contract._standing import EpochContract, MetaContract
from pend_storage.testing.contract._tokens import (
    AttributionContract,
    PendingContract,
    TokenContract,
)
from pend_storage.testing.contract._transactions import TransactionContract
from pend_storage.testing.contract._unstorable import UnstorableTextContract
from pend_storage.testing.contract._values import AcceptedContract, RefusedContract
from pend_storage.testing.contract._writing import (
    CommitContract,
    DeleteContract,
    PutContract,
    PutManyContract,
)

__all__ = ["Harness", "StoreContract"]


class StoreContract(
    GetContract,
    GetManyContract,
    GetByContract,
    ReadContract,
    ScanContract,
    PutContract,
    PutManyContract,
    DeleteContract,
    CommitContract,
    CommitEachContract,
    UniqueContract,
    ReferenceContract,
    ConditionContract,
    JsonConditionContract,
    UnstorableTextContract,
    OrderContract,
    PageContract,
    LimitContract,
    TransactionContract,
    IsolationContract,
    ConcurrencyContract,
    ChangesContract,
    PurgingContract,
    TokenContract,
    AttributionContract,
    AuditContract,
    AuditRetentionContract,
    PendingContract,
    ApplyContract,
    FollowContract,
    MetaContract,
    EpochContract,
    SnapshotContract,
    LoadSnapshotContract,
    LoadChangesContract,
    ReserveNumbersContract,
    HistoryContract,
    AcceptedContract,
    RefusedContract,
    CloseContract,
    ReopenContract,
    ProcessContract,
    LockContract,
):
    """Complete contract of a store; subclass it and override the harness."""
