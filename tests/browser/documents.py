"""Documents of an environment in the middle of its migration, as the console sends them."""

from __future__ import annotations

import copy
import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

__all__ = ["Document", "answers", "everything_well", "screens", "snapshot", "text_of"]

Document: TypeAlias = dict[str, Any]

_ACTIONS: Final = (
    "advance",
    "back",
    "emergency",
    "backfill",
    "validate",
    "repair",
    "backup",
    "verify-backup",
    "accept-quarantine",
    "accept-divergence",
    "retry-quarantine",
    "reveal-quarantine",
    "reveal-divergence",
    "pause",
    "resume",
    "cancel",
)
_GUARDED: Final = ("advance", "back", "emergency")
"""Actions that ask for the environment's name."""
ID: Final = "3f1c09a2b7d44c0e9a51"


def _ago(**since: float) -> str:
    return (datetime.now(UTC) - timedelta(**since)).isoformat()


def answers() -> list[Document]:
    """The seven answers, in order."""
    told = (
        ("failing", "ok", "Nothing fails: both stores answer.", None),
        (
            "risk",
            "attention",
            "2 divergences are open; the primary has the right values.",
            "pend-storage divergences list",
        ),
        ("phase", "ok", "The environment is in parallel, as is wanted.", None),
        ("back", "ok", "Back to json-only now: nothing would be lost.", None),
        (
            "running",
            "ok",
            "A backfill by ann: 31 percent, about 2 minutes are left.",
            "pend-storage jobs list",
        ),
        (
            "next",
            "attention",
            "Before postgres-primary: 3 things are in the way.",
            "pend-storage quarantine list",
        ),
        ("fresh", "ok", "Looked at a moment ago, in 9 ms.", None),
    )
    return [
        {"question": name, "level": level, "sentence": sentence, "command": command}
        for name, level, sentence, command in told
    ]


def actions() -> list[Document]:
    """Every action, all of them allowed but two."""
    found = [
        {
            "name": name,
            "method": "POST",
            "path": f"/api/v1/actions/{name}",
            "allowed": True,
            "why_not": None,
            "needs_environment_name": name in _GUARDED,
        }
        for name in _ACTIONS
    ]
    found[3] |= {"allowed": False, "why_not": "A backfill runs already."}
    return found


def snapshot() -> Document:
    """An environment in ``parallel``, with work to do."""
    return {
        "version": 1,
        "id": "1",
        "looked_at": _ago(),
        "looked_ms": 8.8,
        "environment": "production",
        "band": "production",
        "read_only": False,
        "actor": {"name": "ann", "roles": ["view", "operate", "reveal"]},
        "runbook": "https://runbook.example/pend",
        "verdict": {
            "level": "attention",
            "sentence": "Nothing fails. 2 divergences and 24 quarantined records wait.",
            "answers": answers(),
        },
        "status": {"ok": False, "result": _status()},
        "jobs": [_job()],
        "actions": actions(),
        "series": series(),
    }


def _status() -> Document:
    return {
        "environment": "production",
        "configuration": "pend.toml",
        "phase": "parallel",
        "flag": {
            "wanted": "parallel",
            "place": "pend.toml",
            "version": 3,
            "writable": True,
            "problem": None,
            "is_reachable": True,
            "held": None,
        },
        "json": {
            "place": "/srv/pend/data",
            "role": "primary",
            "epoch": 4,
            "problem": None,
            "files": [{"file": "wallet-db.json", "records": 2, "seconds": 0.4}],
        },
        "postgres": {
            "place": "postgresql://pend@db-1.internal:5432/pend?sslmode=verify-full",
            "role": "secondary",
            "epoch": 4,
            "problem": None,
            "files": [],
        },
        "problem": None,
        "details": {
            "lag": {
                "commits": 3,
                "seconds": 0.21,
                "secondary_up": True,
                "blocked": None,
            },
            "retention_seconds": 604800,
            "backfill": "interrupted",
            "validation": None,
            "divergences": 2,
            "waiting": 24,
            "ahead": {
                "phase": "postgres-primary",
                "ready": False,
                "blockers": blockers(),
            },
            "history": switches(),
        },
        "backup": None,
        "broken": [],
    }


def blockers() -> list[Document]:
    """What stands before ``postgres-primary``."""
    return [
        {
            "code": "backfill",
            "sentence": "The backfill is not complete: 12,480 of 40,210 records are copied.",
            "remedy": "pend-storage migrate json",
            "can_be_accepted": False,
        },
        {
            "code": "validation",
            "sentence": "No validation of every record has been clean since the last repair.",
            "remedy": "pend-storage db validate",
            "can_be_accepted": True,
        },
        {
            "code": "quarantine",
            "sentence": "24 quarantined records need a decision.",
            "remedy": "pend-storage quarantine list",
            "can_be_accepted": True,
        },
    ]


def switches() -> list[Document]:
    """Two switches."""
    return [
        {
            "at": _ago(days=9),
            "by": "ann@ops-1, process 4711",
            "reason": "first try, before the weekend",
            "before": "json-only",
            "after": "parallel",
            "epoch": 2,
            "accepted": [],
            "pause": 0.012,
            "count": 1,
        },
        {
            "at": _ago(hours=2),
            "by": "ben@ops-2, process 812",
            "reason": None,
            "before": "json-only",
            "after": "parallel",
            "epoch": 4,
            "accepted": ["quarantine", "backup"],
            "pause": 0.034,
            "count": 1,
        },
    ]


def _job() -> Document:
    return {
        "id": "backfill-1",
        "kind": "backfill",
        "by": "ann",
        "reason": "move production before Friday",
        "host": "ops-1",
        "process": 4711,
        "started": _ago(seconds=70),
        "heartbeat": _ago(),
        "done": 12480,
        "total": 40210,
        "rate": 228.4,
        "eta_seconds": 121.0,
        "throttled": {"lag": 3.2, "rate": 0.0},
        "state": "running",
        "result": None,
    }


def series() -> Document:
    """Ten minutes of measurements."""
    now = datetime.now(UTC).timestamp()
    times = [now - 600 + 10 * n for n in range(61)]

    def wave(low: float, high: float, step: int) -> list[list[float]]:
        rest = [math.sin(n / 3 + step) + math.sin(n * step / 7) for n in range(61)]
        return [
            [t, low + (high - low) * (each + 2) / 4]
            for t, each in zip(times, rest, strict=True)
        ]

    return {
        "lag_seconds": wave(0.05, 0.9, 5),
        "latency": {
            "json": {"p50": wave(0.01, 0.02, 3), "p95": wave(0.03, 0.09, 7)},
            "postgres": {"p50": wave(0.2, 0.4, 5), "p95": wave(0.6, 1.4, 3)},
        },
        "ops": {"json": wave(300, 420, 3), "postgres": wave(180, 260, 7)},
        "compared": {"compared": wave(10, 40, 5), "confirmed": wave(0, 2, 11)},
        "switch_pauses": [[now - 500, 0.012], [now - 30, 0.034]],
    }


def everything_well() -> Document:
    """An environment at the end of its migration, where nothing waits."""
    found = snapshot()
    found["environment"], found["band"] = "staging", "staging"
    found["verdict"] = {
        "level": "ok",
        "sentence": "All is well.",
        "answers": [answer | {"level": "ok", "command": None} for answer in answers()],
    }
    status = found["status"]["result"]
    status["phase"] = status["flag"]["wanted"] = "postgres-only"
    status["json"] |= {"role": "detached", "files": []}
    status["postgres"]["role"] = "primary"
    status["details"] |= {
        "lag": None,
        "divergences": 0,
        "waiting": 0,
        "ahead": None,
        "history": [],
    }
    found["jobs"], found["series"] = [], {}
    return found


_RAW: Final = (
    '{\n  "phone": "+49 170 ***",\n  "wallet": "0x5f21",\n'
    '  "tier": "gold-plus",\n  "joined": "2024-02-30"\n}'
)


def _quarantined(number: int) -> Document:
    code = "field-type" if number % 3 != 1 else "missing-reference"
    return {
        "id": ID if number == 0 else f"{ID}{number}",
        "file": "wallet-db.json" if number % 3 != 1 else "uploads/kyc/metadata.json",
        "place": f"user-{1000 + number}",
        "code": code,
        "reason": "tier is the text 'gold-plus', and has to be a whole number"
        if number % 3 != 1
        else "the user 'u-77' of this application does not exist",
        "status": "waiting",
        "seen_at": _ago(hours=3, minutes=number),
        "size": len(_RAW),
    }


def screens() -> dict[str, Document]:
    """The documents of the other screens, by path."""
    return copy.deepcopy(
        {
            "divergences": {"items": _divergences(), "total": 2, "next": None},
            "quarantine": {
                "items": [_quarantined(n) for n in range(8)],
                "groups": [
                    {"file": "wallet-db.json", "code": "field-type", "count": 16},
                    {
                        "file": "uploads/kyc/metadata.json",
                        "code": "missing-reference",
                        "count": 8,
                    },
                ],
                "next": "8",
            },
            f"quarantine/{ID}": {
                "record": _quarantined(0)
                | {
                    "note": None,
                    "raw": _RAW,
                    "cut": False,
                    "at": {"start": _RAW.index('"gold'), "length": 11},
                    "download": f"/api/v1/quarantine/{ID}/raw",
                }
            },
            "history": {
                "switches": switches(),
                "operations": [
                    {
                        "at": _ago(hours=1),
                        "by": "ben",
                        "action": "validate",
                        "reason": "before the switch",
                        "sentence": "40,210 records compared, 2 differ.",
                    }
                ],
            },
            "audit": {
                "items": _audit(),
                "next": None,
                "export": "/api/v1/audit/export",
            },
            "backups": _backups(),
            "session": {"actor": {"name": "ann", "roles": ["view"]}, "logout": False},
        }
    )


def _divergences() -> list[Document]:
    seen = {"state": "open", "first_seen": _ago(days=1), "last_seen": _ago(minutes=4)}
    return [
        {
            "id": "d-1",
            "collection": "users",
            "key": "5f9c\u202e/../a\nb",
            "kind": "different",
            "source": "read",
            "primary_version": "4503599627370497001",
            "secondary_version": "4503599627370496999",
            "differences": [
                {"path": "tier", "left": 3, "right": 2},
                {"path": "phone_hash", "left": "(redacted)", "right": "(redacted)"},
                {"path": "extra.note", "left": "kept by support"},
            ],
            "more_differences": 0,
            **seen,
        },
        {
            "id": "d-2",
            "collection": "kyc_applications",
            "key": "kyc-2024-000183",
            "kind": "missing",
            "source": "validation",
            "primary_version": "88",
            "secondary_version": "0",
            "differences": [],
            **seen,
        },
    ]


def _audit() -> list[Document]:
    return [
        {
            "id": "a-2",
            "at": _ago(hours=2),
            "by": "ben",
            "request": None,
            "action": "switch",
            "collection": None,
            "key": None,
            "version": None,
            "reason": "planned, ticket 4711",
            "details": {"before": "json-only", "after": "parallel"},
        },
        {
            "id": "a-1",
            "at": _ago(days=1),
            "by": "ann",
            "request": "r-9",
            "action": "put",
            "collection": "users",
            "key": "u-77",
            "version": "4503599627370497001",
            "reason": None,
            "details": None,
        },
    ]


def _backups() -> Document:
    return {
        "repository": "s3://pend-backups/production",
        "problem": None,
        "items": [
            {
                "id": f"2026-11-{30 - n:02}T020000Z-7f{n}",
                "at": _ago(days=n, hours=4),
                "age_seconds": 86400.0 * n + 14400,
                "verified_at": _ago(days=n, hours=3) if n != 1 else None,
                "bytes": 48_211_004 + n,
                "state": "complete",
            }
            for n in range(4)
        ],
        "drill": {
            "at": _ago(days=6),
            "outcome": "passed",
            "rto_seconds": 94.0,
            "rpo_seconds": 1.2,
            "reason": None,
        },
    }


def text_of(document: Any) -> list[str]:
    """Every text of a document."""
    if isinstance(document, dict):
        return [text for value in document.values() for text in text_of(value)]
    if isinstance(document, list):
        return [text for value in document for text in text_of(value)]
    return [document] if isinstance(document, str) else []
