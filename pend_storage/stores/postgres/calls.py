"""One call of ``pend_commit``: its parameters, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pend_storage._records import Batch, Delete, Outcome, Put
from pend_storage.errors import Conflict
from pend_storage.stores.postgres.wire import (
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
    """Batches that are committed together, each for itself."""

    def __init__(
        self, batches: Sequence[Batch], targets: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Lay them out.

        Args:
            batches: independent of each other.
            targets: keys to lock besides, as if they were checked: what the records
                refer to. Their rows are locked at the end of the transaction, in no
                order; where another one writes them, each could wait for the other.
        """
        self._batches = batches
        self._checks = [
            (number, collection, key, expected)
            for number, batch in enumerate(batches)
            for (collection, key), expected in batch.checks.items()
        ]
        self._targets = list(dict.fromkeys(targets))

    def values(
        self, epoch: int | None, haste: Value, *, again: bool
    ) -> tuple[Value, ...]:
        """The parameters.

        Args:
            epoch: see :mod:`pend_storage.store`.
            haste: ``lock_timeout``, as the server understands it.
            again: whether the call may have been done before.
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
            haste,
        )

    def _later(self) -> list[int]:
        """For each operation, how many later ones write the same key."""
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
        """What came of each batch, by the answer ``{versions} place:version ...``."""
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
