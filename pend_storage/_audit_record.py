"""Entries of operations: what was done to an environment, besides commits of records."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pend_storage._model.attribution import Actor, actor, new_token
from pend_storage._model.audit import entry_id, new_entry
from pend_storage._model.records import JSON, Batch
from pend_storage.contract import StoreBackend
from pend_storage.errors import PendStorageError
from pend_storage.events import Event

__all__ = ["record", "record_done"]


def record(
    store: StoreBackend,
    action: str,
    *,
    by: str | None,
    reason: str | None,
    details: Mapping[str, JSON] | None = None,
    request: str | None = None,
) -> str:
    """Add the entry of an operation, and return its id; durable when it returns.

    Args:
        store: of the environment.
        action: short name of the operation, such as ``switch``.
        by: who did it; None: the author of this context.
        reason: why; None: that of this context, if there is one.
        details: JSON values about it, without secrets and without personal values.
        request: id of the request that it serves.

    Raises:
        InvalidRecord: a text cannot be stored.
        StoreUnavailable: the store cannot be reached.
        SchemaOutOfDate: the store must be migrated first.
    """
    outer, token = actor(), new_token()
    author = Actor(by or outer.by, reason or outer.reason, request or outer.request)
    entry = new_entry(entry_id(token, 0), action, author, values=details or {})
    put = store.schema.entry(entry)
    store.commit(Batch((put,), {}, token, author.by, author.reason))
    return entry.id


def record_done(
    store: StoreBackend,
    action: str,
    *,
    by: str | None,
    reason: str | None,
    details: Mapping[str, JSON] | None = None,
) -> bool:
    """Add the entry of an operation that is done already; never raises.

    Where the entry cannot be written, the event ``audit-not-recorded`` has it, so that the
    log of the program shows it.
    """
    try:
        record(store, action, by=by, reason=reason, details=details)
    except PendStorageError as error:
        store.tell(
            Event(
                "audit-not-recorded",
                f"the operation {action} is done, and its audit entry could not be "
                f"written: {error}",
                logging.WARNING,
            )
        )
        return False
    return True
