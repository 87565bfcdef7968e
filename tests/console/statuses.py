"""Statuses of environments that do not exist: a healthy one, and strategies for others."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st

from pend_storage.dualwrite import Lag, Switch
from pend_storage.operations.backup.facts import (
    ArchiveLag,
    BackupFacts,
    DrillFact,
    GoodBackup,
)
from pend_storage.operations.facts import (
    Flag,
    NextPhase,
    Obstacle,
    PairFacts,
    StoreFacts,
)
from pend_storage.operations.quarantine import BrokenFile
from pend_storage.operations.status import EnvironmentStatus
from pend_storage.phases import Phase, Role
from pend_storage.stores.json._legacy_sync.file_lag import FileLag

NOW: Final = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
SWITCHED: Final = Switch(
    at=NOW - timedelta(days=2),
    by="ann@db1, process 7",
    before=Phase.PARALLEL,
    after=Phase.POSTGRES_PRIMARY,
    epoch=3,
    pause=0.024,
)
GOOD: Final = BackupFacts(
    repository="/var/backups/pend",
    problem=None,
    count=4,
    last_good=GoodBackup(
        id="20261130", at=NOW, sequence=12, verified_at=NOW, age_seconds=3_600.0
    ),
)


def details(phase: Phase, **facts: object) -> PairFacts:
    """Facts of a healthy pair in a phase, with others in their place."""
    has_follower = phase in {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}
    after = {p.position: p for p in Phase}.get(phase.position + 1)
    healthy: dict[str, object] = {
        "lag": Lag(0, 0.0, secondary_up=True) if has_follower else None,
        "backfill": "complete" if has_follower else None,
        "validation": {"at": NOW.isoformat(), "found": 0} if has_follower else None,
        "divergences": 0,
        "waiting": 0,
        "ahead": after and NextPhase(phase=after, ready=True, blockers=()),
        "history": (SWITCHED,),
    }
    return PairFacts(**{**healthy, **facts})  # type: ignore[arg-type]


def status(
    phase: Phase | None = Phase.POSTGRES_PRIMARY, **facts: object
) -> EnvironmentStatus:
    """Return a healthy status in a phase, with other facts in their place."""
    healthy: dict[str, object] = {
        "environment": "production",
        "configuration": "pend.toml",
        "flag": Flag(wanted=phase, place="pend.toml", writable=True),
        "phase": phase,
        "json": phase and StoreFacts(place="data", role=phase.json_role, epoch=3),
        "postgres": phase
        and StoreFacts(place="postgresql://db/x", role=phase.postgres_role, epoch=3),
        "problem": None,
        "details": phase and details(phase),
        "backup": GOOD,
    }
    return EnvironmentStatus(**{**healthy, **facts})  # type: ignore[arg-type]


# -- strategies ---------------------------------------------------------------------------

PHASES: Final = st.sampled_from(Phase)
SECONDS: Final = st.floats(min_value=0, max_value=1e9) | st.just(math.inf)
REASONS: Final = st.text(min_size=1, max_size=20)
COUNTS: Final = st.integers(0, 30) | st.just(10**6)

LAGS: Final = st.builds(
    Lag, COUNTS, SECONDS, secondary_up=st.booleans(), blocked=st.none() | REASONS
)
FLAGS: Final = st.builds(
    Flag,
    wanted=st.none() | PHASES,
    place=st.just("flag"),
    writable=st.booleans(),
    problem=st.none() | REASONS,
    held=st.none() | REASONS,
)
FILES: Final = st.builds(
    FileLag, file=st.just("wallet-db.json"), records=COUNTS, seconds=SECONDS
)
SIDES: Final = st.builds(
    StoreFacts,
    place=st.just("there"),
    role=st.none() | st.sampled_from(Role),
    epoch=st.none() | st.integers(0, 300),
    problem=st.none() | REASONS,
    files=st.lists(FILES, max_size=2).map(tuple),
)
OBSTACLES: Final = st.builds(
    Obstacle,
    code=st.sampled_from(["backup", "lag"]),
    sentence=REASONS,
    remedy=st.just("pend-storage backup create"),
    can_be_accepted=st.booleans(),
)
DETAILS: Final = st.builds(
    PairFacts,
    lag=st.none() | LAGS,
    backfill=st.sampled_from([None, "never", "interrupted", "complete"]),
    validation=st.sampled_from([None, {"found": 0}, {"found": 24}]),
    divergences=st.none() | COUNTS,
    waiting=st.none() | COUNTS,
    ahead=st.none()
    | st.builds(
        NextPhase,
        phase=PHASES,
        ready=st.booleans(),
        blockers=st.lists(OBSTACLES, max_size=2).map(tuple),
    ),
    history=st.sampled_from([(), (SWITCHED,)]),
)
BACKUPS: Final = st.builds(
    BackupFacts,
    repository=st.just("there"),
    problem=st.none() | REASONS,
    last_good=st.sampled_from([None, GOOD.last_good]),
    is_old=st.booleans(),
    archive=st.none()
    | st.builds(
        ArchiveLag,
        commits=st.none(),
        seconds=st.none(),
        upto=st.none(),
        problem=st.none() | REASONS,
    ),
    drill=st.none()
    | st.builds(
        DrillFact,
        at=st.just(NOW),
        backup=st.just("1"),
        outcome=st.sampled_from(["ok", "failed"]),
        rto_seconds=st.none(),
        rpo_seconds=st.none(),
        reason=st.none() | REASONS,
    ),
    failure=st.none() | REASONS,
    damaged=st.integers(0, 2),
)
BROKEN: Final = st.builds(
    BrokenFile,
    file=st.just("db.json"),
    id=st.just("ab12"),
    reason=REASONS,
    unread=st.booleans(),
)
STATUSES: Final = st.builds(
    EnvironmentStatus,
    environment=st.just("production"),
    configuration=st.just("pend.toml"),
    flag=FLAGS,
    phase=st.none() | PHASES,
    json=st.none() | SIDES,
    postgres=st.none() | SIDES,
    problem=st.none() | REASONS,
    details=st.none() | DETAILS,
    backup=st.none() | BACKUPS,
    broken=st.lists(BROKEN, max_size=2).map(tuple),
)
