"""Recovery verbs of a pair: snapshots of the primary, histories from both logs."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from typing_extensions import override

from pend_storage._model.snapshots import (
    KeyChange,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._roles import other
from pend_storage.dualwrite._route import Route
from pend_storage.dualwrite._routed_reads import RoutedReads
from pend_storage.errors import ConfigError, StaleEpoch
from pend_storage.events import Progress
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["RoutedRecovery"]


class RoutedRecovery(RoutedReads):
    """Recovery verbs of the contract, answered by the stores of a pair.

    The parts are made by :class:`~pend_storage.dualwrite.DualWriteStore`.
    """

    _pair: Pair

    @override
    @contextmanager
    def snapshot(self) -> Iterator[SnapshotReader]:
        """Open a snapshot of the primary; its position is one of the primary's own log.

        Where the primary changes meanwhile, the new one's snapshot is opened instead.
        """
        with ExitStack() as opened:

            def open_at(store: Store, epoch: int | None) -> SnapshotReader:
                opened.close()  # that of a former attempt
                reader = opened.enter_context(store.snapshot())
                _require_role(reader, epoch)
                return reader

            yield self._router.call_reading(open_at)

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        """Iterate over the changes of one key in both logs, the newest first.

        Sequence numbers are those of the store that made the commit.

        Raises:
            UnknownCollection: there is none of that name.
            StoreUnavailable: a store that may have more of them cannot be reached.
        """
        name = self.schema[collection].name
        return self._history(self._router.current(), name, key, before)

    def _history(
        self, route: Route, name: str, key: str, before: int | None
    ) -> Iterator[KeyChange]:
        mine = route.store.record_history(name, key, before=before)
        oldest: list[KeyChange] = []
        for change in mine:
            if change.epoch < route.epoch:
                oldest.append(change)
                break
            yield change
        # Entries of the other store end before the present epoch: it is read only where a
        # caller wants older ones.
        peer = self._pair.store(other(route.side))
        theirs = (
            change
            for change in peer.record_history(name, key, before=before)
            if change.epoch < route.epoch
        )
        yield from heapq.merge(
            itertools.chain(oldest, mine),
            theirs,
            key=lambda change: (change.epoch, change.sequence),
            reverse=True,
        )

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        """Refuse: a restore fills one store."""
        _refuse()

    @override
    def load_changes(self, changes: Iterable[StoredChange]) -> int:
        """Refuse: a restore fills one store."""
        _refuse()

    @override
    def reserve_numbers(self, above: int) -> None:
        """Refuse: the stores number their commits themselves."""
        _refuse()


def _refuse() -> NoReturn:
    raise ConfigError(
        "a pair of stores cannot be restored, and has no sequence numbers of its own. "
        "Restore into one new, empty store, and promote that."
    )


def _require_role(reader: SnapshotReader, epoch: int | None) -> None:
    """Require that the store was primary at the position of its snapshot.

    Args:
        reader: the snapshot.
        epoch: of the primary; None: the store is fenced, at an epoch that is known.

    Raises:
        StaleEpoch: it had another role.
    """
    found = RoleState.from_meta(reader.meta.get(ROLE_META))
    wanted = Role.FENCED if epoch is None else Role.PRIMARY
    if found.role is not wanted or epoch not in {None, found.epoch}:
        raise StaleEpoch(store="a snapshot", role=found.role.value, epoch=found.epoch)
