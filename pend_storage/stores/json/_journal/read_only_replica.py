"""Read-only replica: a replica of a process that only looks, and changes nothing.

It reads what is published. What a dead process has written after that is left to the next
process that commits: it was never acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from pend_storage.errors import StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import State
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._journal.replica_state import ReplicaState, load
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission

__all__ = ["ReadOnlyReplica"]


class ReadOnlyReplica(Replica):
    """Read the state of a directory through descriptors that cannot write."""

    def __init__(
        self,
        schema: Schema,
        directory: Path,
        *,
        name: str,
        admission: SchemaAdmission | None,
        state: Callable[[Schema, str], State] = State,
    ) -> None:
        """Load the state.

        Args:
            schema: the collections.
            directory: the store's own directory.
            name: of the store, in errors.
            admission: admits the schema; None: the rows may be of any schema.
            state: makes the empty state.

        Raises:
            CorruptFile: a file is damaged.
            SchemaOutOfDate: the rows are of another schema, or of a newer version.
        """
        self._make_state = state
        self._seen_generation = 0
        super().__init__(schema, directory, name=name, admission=admission)

    @override
    def _loaded(self) -> ReplicaState:
        return load(
            self.own, self.schema, self._name, state=self._make_state, write=False
        )

    def is_current(self) -> bool:
        """Return whether the paths still lead to the open directory and its files.

        Where they do not, the directory was restored, moved or replaced: open it again.
        """
        if self._closed:
            return False
        try:
            generation = self.own.verify_path()
        except StoreUnavailable:
            return False
        if generation == self._seen_generation:
            return True
        with self.mutex:
            is_named = self._live.journal.is_named()
        self._seen_generation = generation
        return is_named
