"""Commit call: parameters and answer of one ``pend_commit`` call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pend_storage._model.records import Batch, Delete, Outcome, Put
from pend_storage.errors import Conflict
from pend_storage.stores.postgres._connection.wire_format import (
    Value,
    bigint_array,
    flag,
    json_array,
    number,
    optional_array,
    text_array,
    uuid_array,
)

__all__ = ["CommitCall"]


class CommitCall:
    """Call that commits several batches, each with its own outcome."""

    def __init__(
        self, batches: Sequence[Batch], targets: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Lay out the checks of the batches.

        Args:
            batches: independent of each other.
            targets: further keys to lock, as if they were checked: the targets of
                references. The server locks their rows at the end of the transaction,
                in no order; where another commit writes them, each could wait for the
                other.
        """
        self._batches = batches
        self._checks = [
            (number, collection, key, expected)
            for number, batch in enumerate(batches)
            for (collection, key), expected in batch.checks.items()
        ]
        self._targets = list(dict.fromkeys(targets))

    def values(
        self,
        epoch: int | None,
        lock_timeout: Value,
        *,
        again: bool,
        alone: bool = False,
    ) -> tuple[Value, ...]:
        """Encode the parameters.

        Args:
            epoch: at which the store must be primary; None: not checked.
            lock_timeout: as the server reads it, such as ``b"100ms"``; None: default.
            again: whether an earlier attempt may have been committed.
            alone: whether it holds the store lock exclusively, and no lock of a key.
        """
        checks, targets = self._checks, self._targets
        operations = [o for batch in self._batches for o in batch.operations]
        numbers = [n for n, batch in enumerate(self._batches) for _ in batch.operations]
        bodies = [o.body if isinstance(o, Put) else None for o in operations]
        return (
            number(epoch),
            bigint_array([c[0] for c in checks] + [0] * len(targets)),
            text_array([c[1] for c in checks] + [t[0] for t in targets]),
            text_array([c[2] for c in checks] + [t[1] for t in targets]),
            bigint_array([c[3] for c in checks] + [None] * len(targets)),
            bigint_array(numbers),
            text_array(o.collection for o in operations),
            text_array(o.key for o in operations),
            json_array(bodies),
            bigint_array(self._later()),
            text_array({o.collection for o in operations if isinstance(o, Delete)}),
            uuid_array(batch.token for batch in self._batches),
            optional_array(batch.by for batch in self._batches),
            optional_array(batch.reason for batch in self._batches),
            flag(again),
            lock_timeout,
            flag(alone),
        )

    def _later(self) -> list[int]:
        """Number of later operations on the same key, for each operation."""
        seen: dict[tuple[str, str], int] = {}
        later: list[int] = []
        for batch in reversed(self._batches):
            for operation in reversed(batch.operations):
                place = (operation.collection, operation.key)
                count = seen.get(place, 0)
                later.append(count)
                seen[place] = count + 1
        later.reverse()
        return later

    def outcomes(self, answer: str) -> list[Outcome]:
        """Decode the answer ``{versions} place:version ...`` for each batch."""
        array, *failed = answer.split(" ")
        versions = list(map(int, array[1:-1].split(","))) if array != "{}" else []
        outcomes: list[Outcome] = []
        begin = 0
        for batch in self._batches:
            end = begin + len(batch.operations)
            outcomes.append(tuple(versions[begin:end]))
            begin = end
        for item in failed:
            place, actual = map(int, item.split(":"))
            owner, collection, key, expected = self._checks[place - 1]
            outcomes[owner] = Conflict(
                collection=collection, key=key, expected=expected, actual=actual
            )
        return outcomes
