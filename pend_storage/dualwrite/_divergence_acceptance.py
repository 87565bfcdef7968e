"""Acceptance of divergences: an operator lets the stores differ, and says why.

The finding is closed as *accepted*, and stays as it was seen. Who accepted it, and why, is
in the metadata of the pair, because the change log, which has both, is pruned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage._shown import cut, shown
from pend_storage.dualwrite._divergence_check import Finding
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._pair_metadata import SharedValues
from pend_storage.errors import ConfigError

__all__ = [
    "ACCEPTED_META",
    "Acceptance",
    "DivergenceAcceptance",
    "acceptances_in",
]

ACCEPTED_META: Final = "accepted-divergences"
"""Metadata of the pair: who accepted which findings, and why."""
_VERSION: Final = 1
_MOST: Final = 1_000
"""As many as findings are kept; the oldest make room."""
_LONGEST_ACTOR: Final = 200
_LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Decision of an operator about one finding."""

    by: str
    reason: str
    at: datetime


class _Record(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    entries: dict[str, Acceptance] = {}


class DivergenceAcceptance:
    """Accepts findings of a pair, and knows who did. Safe to share between threads."""

    def __init__(self, registry: DivergenceRegistry, metadata: SharedValues) -> None:
        """Make it.

        Args:
            registry: records the findings.
            metadata: of the pair.
        """
        self._registry = registry
        self._metadata = metadata

    def known(self) -> Mapping[str, Acceptance]:
        """Return the decisions by the ids of the findings.

        Raises:
            ConfigError: a newer version of the library has recorded them.
        """
        return acceptances_in(self._metadata.get(ACCEPTED_META))

    def accept(
        self, ids: Sequence[str], *, by: str, reason: str
    ) -> tuple[Finding, ...]:
        """Accept findings; see ``DualWriteStore.accept_divergences``."""
        if not reason.strip():
            raise ConfigError("an acceptance needs a reason: it is kept with it.")
        found = {each.id: each for each in self._registry.findings()}
        wanted = [_acceptable(identity, found.get(identity)) for identity in ids]
        # The decision first: a finding that is accepted by no one could not be explained.
        self._record(ids, by=by, reason=reason)
        self._registry.accept({each.id: each for each in wanted})
        return tuple(replace(each, state="accepted") for each in wanted)

    def _record(self, ids: Sequence[str], *, by: str, reason: str) -> None:
        decision = Acceptance(
            by=cut(by, _LONGEST_ACTOR),
            reason=cut(reason, _LONGEST_REASON),
            at=datetime.now(UTC),
        )
        while True:
            found = self._metadata.get(ACCEPTED_META)
            entries = {**_parsed(found).entries, **dict.fromkeys(ids, decision)}
            kept = sorted(entries.items(), key=lambda item: item[1].at)[-_MOST:]
            value: JSON = msgspec.to_builtins(_Record(entries=dict(kept)))
            if self._metadata.compare_and_set(ACCEPTED_META, found, value):
                return


def acceptances_in(value: JSON) -> Mapping[str, Acceptance]:
    """Return the decisions in a value of the metadata, by the ids of the findings.

    Raises:
        ConfigError: a newer version of the library has recorded them.
    """
    return _parsed(value).entries


def _acceptable(identity: str, finding: Finding | None) -> Finding:
    if finding is None:
        raise ConfigError(
            f"there is no open divergence {shown(identity)}. See: pend-storage divergences "
            "list"
        )
    if finding.kind == "answer":
        raise ConfigError(
            f"the divergence {finding.id} is of an answer to a query, so no version says "
            "whether it is still the same one. See: pend-storage db validate"
        )
    if finding.source == "edit":
        raise ConfigError(
            f"the divergence {finding.id} is of an edit of a legacy file, which waits in "
            "quarantine. See: pend-storage quarantine list"
        )
    return finding


def _parsed(value: JSON) -> _Record:
    if value is None:
        return _Record()
    version = value.get("version") if isinstance(value, Mapping) else None
    if isinstance(version, int) and version > _VERSION:
        raise ConfigError(
            f"accepted divergences are recorded in format {version}, and this version of "
            f"pend_storage reads format {_VERSION}: install the newer one here."
        )
    try:
        return msgspec.convert(value, _Record)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the record of accepted divergences cannot be read ({error}): restore the "
            f"shared value {shown(ACCEPTED_META)} of the pair."
        ) from None
