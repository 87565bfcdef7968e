"""A store whose calls all go in company: what merging does, done to every call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from typing_extensions import override

from pend_storage._model.records import Batch, Delete, Outcome, Row
from pend_storage.errors import PendStorageError
from pend_storage.stores.wrapper import WrapperStore

__all__ = ["CrowdedStore"]

_NEVER: Final = "\N{LATIN SMALL LETTER Z}zz-nobody-has-this-key"


class CrowdedStore(WrapperStore):
    """Commits and reads for its caller and for strangers at once.

    The strangers' commits change nothing: one conflicts, one deletes what is not there.
    So a store behaves like the one inside, and the contract can be run on it to see that
    merged calls mean what single ones do.
    """

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        outcome = self.commit_each([batch], epoch=epoch)[0]
        if isinstance(outcome, PendStorageError):
            raise outcome
        return outcome

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        name = next(iter(self.schema)).name
        conflicts = Batch((), {(name, _NEVER): 1})
        deletes = Batch((Delete(name, _NEVER),))
        crowd = [deletes, conflicts, *batches, conflicts, deletes]
        return self.inner.commit_each(crowd, epoch=epoch)[2:-2]

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        wanted = list(keys)
        crowd = [_NEVER, *wanted] if wanted else wanted
        return self.inner.read(collection, crowd, deleted=deleted, epoch=epoch)
