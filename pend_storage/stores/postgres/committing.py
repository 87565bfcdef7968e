"""Commits: which function of the database takes a batch, and what its answers mean."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage.errors import Conflict, StoreUnavailable
from pend_storage.records import Batch, Put
from pend_storage.store import Store
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.errors import (
    ConnectionLost,
    ServerRefusal,
    raise_stale,
)
from pend_storage.stores.postgres.link import Statement
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.violations import raise_violation
from pend_storage.stores.postgres.wire import (
    Value,
    bigint_array,
    is_storable,
    json_array,
    number,
    text_array,
)

__all__ = ["Committer"]

_ATTEMPTS: Final = 8
_LONGEST_PAUSE: Final = 0.1  # seconds


class Committer:
    """Runs the commits of one store."""

    def __init__(
        self, store: Store, server: Server, known: Mapping[str, CollectionStatements]
    ) -> None:
        self._store = store
        self._server = server
        self._known = known

    def commit(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        """See :meth:`Store.commit`.

        A deadlock, or a rule that was broken a moment ago and is not any more, is tried
        again: nothing was written.
        """
        batch, places = _without_impossible(batch)
        statement, values = self._call(batch, epoch)
        for attempt in range(_ATTEMPTS):
            try:
                answer = _answer(self._server.run(statement, values))
            except ConnectionLost as lost:
                if lost.sent or attempt + 1 == _ATTEMPTS:
                    raise self._server.lost(lost) from lost
            except ServerRefusal as refusal:
                self._judge(refusal, batch)
            else:
                versions = self._versions(answer, batch)
                return versions if places is None else _spread(versions, places)
            limit = min(_LONGEST_PAUSE, 0.001 * 2**attempt)
            time.sleep(random.uniform(0, limit))  # noqa: S311 - not a secret
        raise StoreUnavailable(
            f"the commit was in the way of others {_ATTEMPTS} times",
            store=self._server.name,
        )

    def _judge(self, refusal: ServerRefusal, batch: Batch) -> None:
        """Return if the batch may be tried again."""
        if refusal.is_violation:
            raise_violation(self._store, batch.operations)
        elif not refusal.is_transient:
            names = {operation.collection for operation in batch.operations}
            only = names.pop() if len(names) == 1 else ""
            raise refusal.public(self._server.name, only) from refusal

    def _call(
        self, batch: Batch, epoch: int | None
    ) -> tuple[Statement, tuple[Value, ...]]:
        operations, checks = batch.operations, batch.checks
        if len(operations) == 1 and isinstance(put := operations[0], Put):
            expected = checks.get((put.collection, put.key))
            if len(checks) == (expected is not None):
                known = self._known[put.collection]
                key, body = put.key.encode(), put.body
                return known.put, (number(epoch), key, body, number(expected))
        for collection, _ in checks:
            self._known[self._store.schema[collection].name]
        bodies = [o.body if isinstance(o, Put) else None for o in operations]
        return statements.COMMIT, (
            number(epoch),
            text_array(collection for collection, _ in checks),
            text_array(key for _, key in checks),
            bigint_array(list(checks.values())),
            text_array(o.collection for o in operations),
            text_array(o.key for o in operations),
            json_array(bodies),
        )

    def _versions(self, answer: str, batch: Batch) -> tuple[int, ...]:
        if answer.startswith("{"):
            inner = answer[1:-1]
            return tuple(map(int, inner.split(","))) if inner else ()
        if answer.startswith("conflict "):
            _, place, actual = answer.split()
            (collection, key), expected = list(batch.checks.items())[int(place) - 1]
            raise Conflict(
                collection=collection, key=key, expected=expected, actual=int(actual)
            )
        raise_stale(answer, self._server.name)
        return (int(answer),)


def _answer(result: PGresult) -> str:
    return (result.get_value(0, 0) or b"").decode()


def _without_impossible(batch: Batch) -> tuple[Batch, list[int] | None]:
    """A batch without keys that no record can have, and where its operations stood.

    Deleting such a key, or demanding that it is not there, is no error; but the server
    could not even be asked.
    """
    keys = [o.key for o in batch.operations] + [key for _, key in batch.checks]
    if all(map(is_storable, keys)):
        return batch, None
    for (collection, key), expected in batch.checks.items():
        if expected and not is_storable(key):
            raise Conflict(collection=collection, key=key, expected=expected, actual=0)
    checks = {p: version for p, version in batch.checks.items() if is_storable(p[1])}
    kept = [o for o in batch.operations if is_storable(o.key)]
    places = [kept.index(o) if is_storable(o.key) else -1 for o in batch.operations]
    return Batch(tuple(kept), checks), places


def _spread(versions: tuple[int, ...], places: list[int]) -> tuple[int, ...]:
    return tuple(0 if place < 0 else versions[place] for place in places)
