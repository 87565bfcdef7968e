"""Where an environment stands: both sides, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pend_storage._records import QuarantinedRecord
from pend_storage.backfill import BACKFILL_META
from pend_storage.config import Settings
from pend_storage.errors import SchemaOutOfDate
from pend_storage.factory import ENVIRONMENT_META, open_postgres
from pend_storage.operations.server import ServerFacts, server_facts
from pend_storage.phases import ROLE_META
from pend_storage.query import And, field
from pend_storage.store import Store

__all__ = ["DatabaseStatus", "database_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """Where a database stands."""

    url: str
    """Without its password."""
    server: ServerFacts
    schema_current: bool
    schema_problem: str | None
    """Why it is not current."""
    environment: str | None = None
    role: str | None = None
    """None: the database stands alone."""
    epoch: int | None = None
    backfill: str | None = None
    """``never``, ``interrupted`` or ``complete``; None where the schema is not current."""
    records: Mapping[str, int]
    """How many, by collection; empty where the schema is not current."""
    waiting: int | None = None
    """Quarantined records that nobody has accepted yet; None like ``backfill``."""

    @property
    def ready(self) -> bool:
        """Whether the schema is current and everything was copied."""
        return self.schema_current and self.backfill == "complete"


def database_status(settings: Settings) -> DatabaseStatus:
    """Look at the database of an environment; changes nothing.

    Raises:
        ConfigError: no database is configured.
        StoreUnavailable: it cannot be reached.
    """
    wanted = settings.require_postgres()
    facts = server_facts(wanted)
    with open_postgres(settings) as store:
        try:
            role = store.meta(ROLE_META)
        except SchemaOutOfDate as error:
            return DatabaseStatus(
                url=wanted.shown_url,
                server=facts,
                schema_current=False,
                schema_problem=str(error),
                records={},
            )
        state = None if role is None else store.role()
        owner = store.meta(ENVIRONMENT_META)
        return DatabaseStatus(
            url=wanted.shown_url,
            server=facts,
            schema_current=True,
            schema_problem=None,
            environment=None if owner is None else str(owner),
            role=None if state is None else state.role.value,
            epoch=None if state is None else state.epoch,
            backfill=_backfill_state(store),
            records={s.name: store.count(s.name, And(())) for s in store.schema},
            waiting=store.collection(QuarantinedRecord).count(
                field("status") == "waiting"
            ),
        )


def _backfill_state(store: Store) -> str:
    mark = store.meta(BACKFILL_META)
    if not isinstance(mark, Mapping):
        return "never"
    return "complete" if mark.get("complete") else "interrupted"
