"""Store wrapper that merges every call with calls of invented other callers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from typing_extensions import override

from pend_storage._model.records import Batch, Delete, Outcome, Row
from pend_storage.errors import PendStorageError
from pend_storage.stores.wrapper import WrapperStore

__all__ = ["CrowdedStore"]

_UNUSED_KEY: Final = "\N{LATIN SMALL LETTER Z}zz-no-record-has-this-key"


class CrowdedStore(WrapperStore):
    """Wrapper that commits and reads for its caller and for others in one call.

    The commits of the others change nothing: one conflicts, one deletes a missing key.
    So the wrapper behaves like the inner store, and the contract shows that merged
    calls mean the same as single ones.
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
        conflicts = Batch((), {(name, _UNUSED_KEY): 1})
        deletes = Batch((Delete(name, _UNUSED_KEY),))
        merged = [deletes, conflicts, *batches, conflicts, deletes]
        return self.inner.commit_each(merged, epoch=epoch)[2:-2]

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
        merged = [_UNUSED_KEY, *wanted] if wanted else wanted
        return self.inner.read(collection, merged, deleted=deleted, epoch=epoch)
