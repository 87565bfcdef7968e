"""Shared by steps 2 and 3: requests, records and errors, as HTTP spells them."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

from access import MOST_ITEMS
from flask import Flask, abort, request

import pend_storage as ps
from pend_storage.pend import BlockchainEvent, KycApplication, User

__all__ = [
    "answer_errors",
    "paging",
    "shown_application",
    "shown_event",
    "shown_user",
    "user_of",
    "wanted_version",
]

STATUS: Final[dict[type[Exception], int]] = {
    ps.InvalidQuery: 400,
    ps.Conflict: 409,
    ps.UniqueViolation: 409,
    ps.InvalidRecord: 422,
    ps.ReferenceViolation: 422,
    ps.StoreUnavailable: 503,
    ps.StaleEpoch: 503,  # a switch has taken longer than the store would wait
    ps.LockTimeout: 503,
}
"""What each error is answered with; any other is a fault of the server."""

NOT_NOW: Final = 503
MOST_CURSOR: Final = 2000
"""Characters."""
LATER: Final = (
    "The data cannot be reached at the moment. Nothing was changed: try again."
)
UNKNOWN: Final = "Whether the change was made is not known. Read before you repeat it."
"""Answers of a 503. Clients do not learn what the servers are called: the log does."""

log: Final = logging.getLogger(__name__)


def answer_errors(app: Flask) -> None:
    """Answer each error with its status, and with a sentence that clients may see."""

    def explain(error: ps.PendStorageError) -> Any:
        status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
        if status < NOT_NOW:
            return {"error": str(error)}, status
        log.error("%s %s: %s", request.method, request.url_rule, error)
        known = not isinstance(error, ps.StoreUnavailable) or error.outcome_known
        return {"error": LATER if known else UNKNOWN}, status, {"Retry-After": "1"}

    for kind in STATUS:
        app.register_error_handler(kind, explain)


def user_of(store: ps.Store, phone_hash: str) -> ps.Versioned[User]:
    """The user of a phone hash; 404 where there is none."""
    users = store.collection(User)
    user = users.get_by("phone_hash", phone_hash)
    found = None if user is None else users.versioned(user.id)
    return found or abort(404, "there is no such user")


def wanted_version() -> int | None:
    """The version that ``If-Match`` demands; None where any will do."""
    tag = request.headers.get("If-Match", "*").strip('"')
    if tag != "*" and not re.fullmatch("[0-9]{1,18}", tag):
        abort(400, "If-Match must be an ETag that this server gave")
    return None if tag == "*" else int(tag)


def paging() -> dict[str, Any]:
    """The requested page: ``find`` checks both."""
    limit = request.args.get("limit", "50")
    after = request.args.get("after")
    if not re.fullmatch("[0-9]{1,3}", limit) or int(limit) > MOST_ITEMS:
        abort(400, f"limit must be a number up to {MOST_ITEMS}")
    if after is not None and len(after) > MOST_CURSOR:
        abort(400, "after is not a cursor of this server")
    return {"limit": int(limit), "after": after}


def shown_user(user: User, version: int, status: int = 200) -> Any:
    """A user, with the version as its ETag."""
    shown = {"phoneHash": user.phone_hash, "walletAddress": user.blockchain_address}
    return {**shown, "tier": user.tier}, status, {"ETag": f'"{version}"'}


def shown_event(event: BlockchainEvent) -> dict[str, Any]:
    """An event, under the names that the legacy log has."""
    return {
        "type": event.event_type,
        "timestamp": _shown_time(event.timestamp),
        "amount": None if event.amount is None else f"{event.amount:f}",
        "txHash": event.transaction_hash,
        "status": event.status,
    }


def shown_application(application: KycApplication) -> dict[str, Any]:
    """A KYC application, as the queue shows it."""
    submitted = _shown_time(application.updated_at)
    return {"phoneHash": application.phone_hash, "submittedAt": submitted}


def _shown_time(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
