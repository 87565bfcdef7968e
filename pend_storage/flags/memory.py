"""Flag memory of a pair of stores: the highest version of the flag that was followed.

A Redis may be restored from an old dump, flushed, or replaced. A process that has just
started cannot recognise that from the key alone, and would follow an old word. So the pair
keeps, for each source that counts versions, which word was followed last; a word below it
is stale, and moves nothing.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
from typing_extensions import override

from pend_storage._model.records import JSON
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags.source import (
    DesiredPhase,
    FlagSource,
    PairValues,
    UnsignedFlag,
)
from pend_storage.phases import Phase

__all__ = [
    "FLAG_META",
    "LARGEST_JUMP",
    "FlagMemory",
    "Followed",
    "RememberedFlag",
    "VersionedFlag",
]

FLAG_META: Final = "flags"
"""Name of the meta entry of a pair: the last word followed, by the name of the source."""
LARGEST_JUMP: Final = 10**12
"""Largest step between two versions without a signature. Milliseconds since 1970 are
possible as versions, and the highest version is many steps away."""


class Followed(msgspec.Struct, frozen=True):
    """Memory of one flag source: the word that was followed last, and the maxima."""

    phase: str
    """Phase that was followed last."""
    version: int
    at: str
    highest: int
    """Highest version that was followed. The last one may be lower: a Redis that was
    flushed counts from the beginning, and its later words are known by their time."""
    latest: str
    """Latest time of a word that was followed."""
    wish: str = ""
    """Phase that a command is about to write, empty once the word is recorded. A server may
    read the word before the command has recorded it."""

    def is_word(self, wanted: DesiredPhase) -> bool:
        """Return whether this is the word that was followed last."""
        word = (wanted.phase.value, wanted.version, wanted.at)
        return word == (self.phase, self.version, self.at)

    def is_before(self, wanted: DesiredPhase) -> bool:
        """Return whether a word was certainly written after all that were followed.

        Words without versions have no order: each counts, until the first version.
        """
        if wanted.version == self.highest == 0:
            return True
        return wanted.version > self.highest or wanted.at > self.latest

    def advanced_to(self, wanted: DesiredPhase) -> Followed:
        """Return the memory after one more word was followed."""
        return Followed(
            wanted.phase.value,
            wanted.version,
            wanted.at,
            max(self.highest, wanted.version),
            max(self.latest, wanted.at),
        )

    def confirms(self, wanted: DesiredPhase) -> bool:
        """Return whether a word is one that a command has written, with the pair at hand."""
        return self.is_word(wanted) or (
            self.wish == wanted.phase.value and self.is_before(wanted)
        )

    @override
    def __str__(self) -> str:
        return f"version {self.version} ({self.phase!r})"


class FlagMemory:
    """Memory of the flags of a pair, kept in the pair's meta entries."""

    def __init__(self, values: PairValues) -> None:
        """Args: values: meta entries of the pair."""
        self._values = values

    def last_followed(self, source: str) -> Followed | None:
        """Return the word that was followed last of a source; None if there was none.

        Raises:
            StoreUnavailable: the primary of the pair cannot be reached.
        """
        return _all(self._read()).get(source)

    def _read(self) -> JSON:
        try:
            return self._values.meta(FLAG_META)
        except StoreUnavailable as error:
            reason = f"the flag's version that was followed last is not known: {error.reason}"
            raise StoreUnavailable(reason, store=error.store) from error

    def record(self, wanted: DesiredPhase) -> None:
        """Record that a word is followed from now on.

        Raises:
            ConfigError: a newer word was followed.
            StoreUnavailable: the primary of the pair cannot be reached.
        """
        if not wanted.source:
            return
        while True:  # other processes record the same word at the same time
            found = self._read()
            known = _all(found)
            before = known.get(wanted.source)
            _require_new(wanted, before)
            if before is not None and before.is_word(wanted):
                return
            start = before or Followed("", 0, "", 0, "")
            known[wanted.source] = start.advanced_to(wanted)
            if self._values.compare_and_set_meta(
                FLAG_META, found, msgspec.to_builtins(known)
            ):
                return

    def announce(self, source: str, phase: Phase) -> None:
        """Record that a command is about to write a phase to a source.

        Raises:
            StoreUnavailable: the primary of the pair cannot be reached.
        """
        while True:
            found = self._read()
            known = _all(found)
            before = known.get(source) or Followed("", 0, "", 0, "")
            known[source] = msgspec.structs.replace(before, wish=phase.value)
            if self._values.compare_and_set_meta(
                FLAG_META, found, msgspec.to_builtins(known)
            ):
                return


def _all(value: JSON) -> dict[str, Followed]:
    return msgspec.convert(value or {}, dict[str, Followed])


def _require_new(wanted: DesiredPhase, followed: Followed | None) -> None:
    """Require that a word is the one followed last, or was written after it.

    Raises:
        ConfigError: the word is stale.
    """
    if followed is None or not followed.phase or followed.is_word(wanted):
        return
    if not wanted.is_signed and wanted.version > followed.highest + LARGEST_JUMP:
        raise ConfigError(
            f"{wanted.place} holds the version {wanted.version}, and {followed} was "
            "followed last: a jump that no program makes, and no later version would have "
            "room. Set the phase again: pend-storage phase set PHASE."
        )
    if followed.is_before(wanted):
        return
    read = f"version {wanted.version}" if wanted.version else "no version"
    raise ConfigError(
        f"{wanted.place} holds a stale word: {wanted.phase.value!r} with {read}, and "
        f"{followed} was followed last. The place was restored from an old copy or "
        "replaced, or the word was set by hand. Set the phase again: pend-storage phase "
        f"set PHASE. By hand, write a version of at least {followed.highest + 1}."
    )


def _require_confirmed(wanted: DesiredPhase, followed: Followed | None) -> None:
    """Require that a command has written a word.

    Raises:
        UnsignedFlag: the pair does not know it.
    """
    if followed is None or not followed.confirms(wanted):
        raise UnsignedFlag(
            f"{wanted.place} holds {wanted.phase.value!r} without a signature, and no command "
            "has told the stores of it: the word was set by hand, or by a stranger. To follow "
            "it, run: pend-storage phase set PHASE. For programs that write the flag, set "
            "PEND_FLAG_KEY everywhere."
        )


class VersionedFlag(FlagSource):
    """Flag source that counts its writes, in versions that outlive every process."""

    is_wake_up: bool = False
    """Whether a word counts only where a command has recorded it in the pair, too."""

    @property
    @abstractmethod
    def remembered_as(self) -> str:
        """Name under which a pair remembers the versions; unique among the sources."""

    @abstractmethod
    @override
    def write(self, phase: Phase, *, by: str, above: int = 0) -> DesiredPhase:
        """Write another desired phase, as :meth:`FlagSource.write` does.

        Args:
            phase: the desired phase.
            by: name of the writer, for the record.
            above: the new version must be higher than this, and than the present one.
        """

    @override
    def remembering(self, values: PairValues) -> FlagSource:
        return RememberedFlag(self, FlagMemory(values))


class RememberedFlag(FlagSource):
    """Versioned flag source that refuses stale words.

    A stale word, and a key that is gone, are errors: no other source decides then. A write
    gets a version above all that were followed.
    """

    def __init__(self, source: VersionedFlag, memory: FlagMemory) -> None:
        """Args: source: the flag. memory: of the pair that follows it."""
        self._source = source
        self._memory = memory
        self._checked: DesiredPhase | None = None

    @property
    @override
    def place(self) -> str:
        return self._source.place

    @property
    @override
    def writable(self) -> bool:
        return self._source.writable

    @override
    def read(self) -> DesiredPhase | None:
        """Read the desired phase, and check a changed word against the pair's memory.

        Raises:
            ConfigError: the word is stale, or one was followed and is gone.
            UnsignedFlag: it is not signed, and no command has recorded it in the pair.
            StoreUnavailable: the source, or the primary of the pair, cannot be reached.
        """
        wanted = self._source.read()
        name = self._source.remembered_as
        if wanted is None:
            self._require_never_followed()
        else:
            wanted = replace(wanted, source=name)
            checked = self._checked
            # A word that was checked is not checked again: that would cost a read of the
            # primary each second. Time is not part of the equality of words.
            if checked is None or (wanted, wanted.at) != (checked, checked.at):
                followed = self._memory.last_followed(name)
                _require_new(wanted, followed)
                if self._source.is_wake_up:
                    _require_confirmed(wanted, followed)
        self._checked = wanted
        return wanted

    def _require_never_followed(self) -> None:
        followed = self._memory.last_followed(self._source.remembered_as)
        if followed is not None and followed.phase:
            raise ConfigError(
                f"{self.place} is gone, and {followed} was followed last: it was flushed, "
                "replaced, or lost its data. Set the phase again: pend-storage phase set "
                "PHASE. If another place shall decide from now on, remove this one from "
                "the configuration and restart the servers."
            )

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        name = self._source.remembered_as
        followed = self._memory.last_followed(name)
        above = 0 if followed is None else followed.highest
        if self._source.is_wake_up:
            self._memory.announce(name, phase)
        written = self._source.write(phase, by=by, above=above)
        wanted = replace(written, source=name)
        with contextlib.suppress(ConfigError):  # a later write is followed already
            self._memory.record(wanted)
        return wanted

    @override
    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        return self._source.subscribe(on_change)

    @override
    def close(self) -> None:
        self._source.close()
