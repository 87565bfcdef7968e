"""Queries of the demo: run on both stores, compared and timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pend_storage._model.diff import equal
from pend_storage.cli._output import Output
from pend_storage.pend import Asset, BlockchainEvent, KycApplication, User
from pend_storage.query import field
from pend_storage.store import Store

__all__ = ["TimedQuery", "compare_queries", "show_queries"]

_ROUNDS: Final = 20

Question: TypeAlias = Callable[[Store], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedQuery:
    """Outcome of one query on both stores."""

    question: str
    rows: int
    """Rows in the result."""
    equal: bool
    """Both stores returned the same result."""
    json_seconds: float
    """Median over several runs, in seconds."""
    postgres_seconds: float


def compare_queries(json: Store, postgres: Store) -> list[TimedQuery]:
    """Run every query on both stores; return results and median times."""
    return [
        _time_query(name, question, json, postgres)
        for name, question in _questions(json).items()
    ]


def show_queries(out: Output, results: Sequence[TimedQuery]) -> None:
    """Print a table of queries with row counts and times."""
    out.table(
        ["question", "rows", "JSON", "PostgreSQL", "same answer"],
        [
            (
                r.question,
                r.rows,
                f"{r.json_seconds * 1000:.2f} ms",
                f"{r.postgres_seconds * 1000:.2f} ms",
                "yes" if r.equal else "no",
            )
            for r in results
        ],
    )


def _questions(store: Store) -> dict[str, Question]:
    """Build the queries that the server's admin panel, wallet and explorer make."""
    newest = store.collection(BlockchainEvent).find(
        ~field("wallet_address").is_null(), order_by=["-timestamp"], limit=1
    )
    wallet = newest.items[0].wallet_address if newest.items else None
    user = next(store.collection(User).scan(), None)
    phone = None if user is None else user.phone_hash

    def events_of_wallet(s: Store) -> Any:
        mine = field("wallet_address") == wallet
        events = s.collection(BlockchainEvent)
        return events.find(mine, order_by=["-timestamp"], limit=5).items

    def waiting_kyc(s: Store) -> Any:
        waiting = field("status") == "pending_review"
        kyc = s.collection(KycApplication)
        return kyc.find(waiting, order_by=["submitted_at"], limit=20).items

    def assets_about(s: Store) -> Any:
        return s.collection(Asset).find(field("title").contains("solar")).items

    def latest_page(s: Store) -> Any:
        events = s.collection(BlockchainEvent)
        return events.find(order_by=["-timestamp"], limit=20).items

    def consents(s: Store) -> Any:
        is_consent = field("event_type") == "consent_signature"
        return [s.collection(BlockchainEvent).count(is_consent)]

    return {
        "a user by phone hash": lambda s: [
            s.collection(User).get_by("phone_hash", phone)
        ],
        "a wallet's 5 latest transactions": events_of_wallet,
        "the KYC queue, oldest first": waiting_kyc,
        "assets with 'solar' in their title": assets_about,
        "the explorer's first page": latest_page,
        "how many consents were signed": consents,
    }


def _time_query(
    name: str, question: Question, json: Store, postgres: Store
) -> TimedQuery:
    answers = [question(json), question(postgres)]
    times = [
        [_seconds(question, store) for _ in range(_ROUNDS)]
        for store in (json, postgres)
    ]
    return TimedQuery(
        question=name,
        rows=len(answers[0]),
        equal=equal(list(answers[0]), list(answers[1])),
        json_seconds=statistics.median(times[0]),
        postgres_seconds=statistics.median(times[1]),
    )


def _seconds(question: Question, store: Store) -> float:
    started = time.perf_counter()
    question(store)
    return time.perf_counter() - started
