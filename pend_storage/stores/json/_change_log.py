"""Change log of an open directory: entries as changes of records, by position or token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pend_storage._files.failures import translated
from pend_storage._model.records import Change, Pending
from pend_storage.errors import ChangesExpired
from pend_storage.stores.json._journal.history_reader import effects_after
from pend_storage.stores.json._journal.pending_count import count_pending
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission

__all__ = ["ChangeLog"]


class ChangeLog:
    """Read entries of the journal as changes of records of the present schema."""

    def __init__(self, admission: SchemaAdmission, name: str) -> None:
        """Create a reader.

        Args:
            admission: knows the floor: entries up to it are of a former schema.
            name: of the store, in errors.
        """
        self._admission = admission
        self._name = name

    def read(self, engine: Replica, after: int) -> Iterator[Change]:
        """Yield the changes after a sequence number, in order.

        Args:
            engine: the open store.
            after: sequence number of the last entry that the caller has.

        Raises:
            ChangesExpired: some of them are not retained, or are of a former schema.
            SchemaOutOfDate: a newer program has added to the schema.
        """
        self._admission.require_whole()
        self._require_readable(after)
        state, end, found = engine.read_replica(
            lambda live: (live.state, live.journal.position, live.history.since(after))
        )
        if found is None:  # further back than memory reaches: read the segments
            with translated(engine.directory):
                effects = effects_after(engine.directory, after, end, state.name)
                yield from map(state.change_of, effects)
        else:
            yield from map(state.change_of, found)

    def find(self, engine: Replica, token: str) -> Change | None:
        """Return the commit that carries a token; None if the log has no such entry."""

        def read(live: ReplicaState) -> Change | None:
            with translated(engine.directory):
                effect = live.find(token)
            if effect is None:
                return None
            # A record of a former schema cannot be decoded; that the commit succeeded,
            # which is what a caller asks by a token, is known all the same.
            if effect.sequence <= self._admission.floor:
                rows = tuple(row._replace(body=None) for row in effect.rows)
                effect = replace(effect, rows=rows)
            return live.state.change_of(effect)

        return engine.read_replica(read)

    def pending(
        self, engine: Replica, after: int, *, whole: bool = True
    ) -> Pending | None:
        """Count the changes after a sequence number; None if only reading the log can.

        Args:
            engine: state of the open store.
            after: sequence number.
            whole: as for :func:`count_pending`.

        Raises:
            ChangesExpired: some of them are not retained, or are of a former schema.
        """
        engine.read_state(
            lambda _: None
        )  # refreshes, so that the floor is the present one
        self._require_readable(after)
        return count_pending(engine, after, whole=whole)

    def _require_readable(self, after: int) -> None:
        """Refuse to read entries of the change log that are of a former schema.

        Raises:
            ChangesExpired: some of the requested entries are.
        """
        floor = self._admission.floor
        if after < floor:
            raise ChangesExpired(store=self._name, after=after, oldest=floor)
