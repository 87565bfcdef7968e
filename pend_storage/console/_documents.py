"""Documents of the console: the snapshot, and the parts that others use of it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from starlette.responses import Response

from pend_storage._plain import plain
from pend_storage.config import Settings
from pend_storage.console._poller import Look
from pend_storage.dualwrite._roles import SIDES
from pend_storage.operations.documents import status_document
from pend_storage.operations.status import EnvironmentStatus
from pend_storage.operations.verdict import Level, verdict

__all__ = [
    "VERSION",
    "answered",
    "band_of",
    "encoded",
    "environment_document",
    "epoch_of",
    "texts_of_numbers",
]

VERSION: Final = 1
"""Version of every document."""
_SAFE: Final = 2**53
"""Whole numbers from here on are rounded by JavaScript."""

Band: TypeAlias = Literal["production", "staging", "development", "other"]
_BANDS: Final[tuple[tuple[Band, re.Pattern[str]], ...]] = (
    ("production", re.compile(r"(^|[-_.])(prod|production|live)($|[-_.\d])")),
    ("staging", re.compile(r"(^|[-_.])(stag|stage|staging|preprod|uat|qa)($|[-_.\d])")),
    (
        "development",
        re.compile(r"(^|[-_.])(dev|develop|development|local|test)($|[-_.\d])"),
    ),
)
_FEED_NUMBERS: Final = frozenset(
    {"sequence", "versions", "upto", "earliest_sequence", "latest_sequence"}
)
"""Members that hold numbers of the change log: texts in every document."""


def band_of(environment: str) -> Band:
    """Return the kind of an environment by its name: the colour of the page's band."""
    name = environment.lower()[:200]
    return next((band for band, names in _BANDS if names.search(name)), "other")


def epoch_of(status: EnvironmentStatus) -> int | None:
    """Return the latest epoch of the stores that answer; None where it is not known."""
    sides = (status.json, status.postgres)
    epochs = [
        side.epoch for side in sides if side is not None and side.epoch is not None
    ]
    return max(epochs, default=None)


def texts_of_numbers(value: Any, *, named: bool = False) -> Any:
    """Return a plain value whose numbers of the change log, and large ones, are texts.

    Args:
        value: of JSON.
        named: whether it stands under the name of such a number.
    """
    if isinstance(value, dict):
        return {
            name: texts_of_numbers(member, named=name in _FEED_NUMBERS)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [texts_of_numbers(item, named=named) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if named or abs(value) >= _SAFE else value
    return value


def encoded(document: Any) -> bytes:
    """Return a document as JSON; infinite numbers are null."""
    return msgspec.json.encode(texts_of_numbers(plain(document)), enc_hook=str)


def answered(document: Any, status: int = 200) -> Response:
    """Return the answer with a document."""
    content = encoded({"version": VERSION, **document})
    return Response(content, status, media_type="application/json")


def environment_document(
    settings: Settings,
    look: Look | None,
    *,
    now: datetime,
    series: dict[str, Any],
    read_only: bool,
    runbook: str | None,
) -> dict[str, Any]:
    """Return the snapshot of an environment, without what depends on the actor.

    Args:
        settings: of the environment.
        look: the last one; None: there was none yet.
        now: time at which the verdict is read, UTC.
        series: of the charts.
        read_only: whether the console has no actions.
        runbook: address of the pages for operators.
    """
    status = None if look is None else look.status
    found: dict[str, Any] = {
        "version": VERSION,
        "id": f"{0 if look is None else look.number}",
        "looked_at": None if look is None else look.at,
        "looked_ms": None if look is None else round(look.seconds * 1000, 1),
        "environment": settings.environment,
        "band": band_of(settings.environment),
        "read_only": read_only,
        "runbook": runbook,
        "problem": None if look is None else look.problem,
        "expected": None,
        "verdict": _verdict(settings, look, now),
        "status": None,
        "health": None if look is None else look.health,
        "jobs": [] if status is None else status.jobs,
        "series": series,
    }
    if look is not None and status is not None:
        found["expected"] = {
            "phase": status.phase,
            "epoch": None if epoch_of(status) is None else str(epoch_of(status)),
        }
        found["status"] = _status(settings, look, status)
    return found


def _verdict(settings: Settings, look: Look | None, now: datetime) -> Any:
    if look is None or look.status is None:
        reason = "the first look is not done yet" if look is None else look.problem
        said = f"nothing is known of the environment: {reason}"
        return {"level": Level.RISK, "sentence": said, "answers": []}
    found = verdict(
        look.status,
        now,
        looked_at=look.facts_at or look.at,
        retention=timedelta(days=settings.dual_write.retention_days),
    )
    if look.problem is None:
        return found
    return {
        "level": max(found.level, Level.RISK, key=lambda level: level.rank),
        "sentence": f"the last look failed: {look.problem}; before it: {found.sentence}",
        "answers": found.answers,
    }


def _status(settings: Settings, look: Look, status: EnvironmentStatus) -> Any:
    """Return the document of ``status --json``, with what only a running process knows."""
    document = plain(status_document(status))
    result = document["result"]
    checks = {} if look.health is None else {c.name: c for c in look.health.checks}
    for side in SIDES:
        if result[side] is not None and side in checks:
            check = checks[side]
            latency = round(check.seconds * 1000, 2) if check.ok else None
            result[side] |= {"latency_ms": latency, "up_since": look.up_since.get(side)}
    if result["details"] is not None:
        days = settings.dual_write.retention_days
        result["details"]["retention_seconds"] = days * 86_400
    return document
