"""The contract that every store keeps, as tests.

Subclass :class:`StoreContract` in a test module, and say how to make a store::

    class TestMyStore(StoreContract):
        durable = True

        def make_store(self, schema):
            return MyStore(schema, ...)

pytest then runs every test of the contract on it. The tests are grouped by verb, in one
module each; :class:`~pend_storage.testing.contract.harness.Harness` is all that a
backend overrides.
"""

from __future__ import annotations

from pend_storage.testing.contract.changelog import ChangesContract
from pend_storage.testing.contract.concurrency import ConcurrencyContract
from pend_storage.testing.contract.feeding import ApplyContract, FollowContract
from pend_storage.testing.contract.grouping import CommitEachContract
from pend_storage.testing.contract.harness import Harness
from pend_storage.testing.contract.isolation import IsolationContract
from pend_storage.testing.contract.lifetime import (
    CloseContract,
    ProcessContract,
    ReopenContract,
)
from pend_storage.testing.contract.locking import LockContract
from pend_storage.testing.contract.paging import OrderContract, PageContract
from pend_storage.testing.contract.querying import (
    ConditionContract,
    JsonConditionContract,
)
from pend_storage.testing.contract.reading import (
    GetByContract,
    GetContract,
    GetManyContract,
    ReadContract,
)
from pend_storage.testing.contract.rules import ReferenceContract, UniqueContract
from pend_storage.testing.contract.scanning import ScanContract
from pend_storage.testing.contract.standing import EpochContract, MetaContract
from pend_storage.testing.contract.tokens import (
    AttributionContract,
    PendingContract,
    TokenContract,
)
from pend_storage.testing.contract.transactions import TransactionContract
from pend_storage.testing.contract.unstorable import UnstorableTextContract
from pend_storage.testing.contract.values import AcceptedContract, RefusedContract
from pend_storage.testing.contract.writing import (
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
    TransactionContract,
    IsolationContract,
    ConcurrencyContract,
    ChangesContract,
    TokenContract,
    AttributionContract,
    PendingContract,
    ApplyContract,
    FollowContract,
    MetaContract,
    EpochContract,
    AcceptedContract,
    RefusedContract,
    CloseContract,
    ReopenContract,
    ProcessContract,
    LockContract,
):
    """Everything that a store must do; see the module."""
