"""The phase flag as commands see it: what it says, and whether they can change it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pend_storage.config import Settings
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.flags import FlagMemory, FlagSource, PairValues
from pend_storage.phases import Phase

__all__ = [
    "Flag",
    "FlagChange",
    "change_flag",
    "read_flag",
    "read_flag_of",
    "require_changeable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """What the flag says now."""

    wanted: Phase | None
    """None: it is set nowhere, or cannot be read."""
    place: str
    """Where it is, or where it may be."""
    version: int = 0
    writable: bool
    """Whether a command can change it."""
    problem: str | None = None
    """Why it cannot be read."""
    is_reachable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChange:
    """What became of the flag."""

    place: str
    before: Phase | None
    after: Phase | None
    written: bool
    note: str = ""
    """What to do by hand; empty where nothing is."""


def read_flag(source: FlagSource) -> Flag:
    """Read it; what goes wrong is in the answer."""
    try:
        wanted = source.read()
        writable = source.writable
    except StoreUnavailable as error:
        return Flag(
            wanted=None,
            place=source.place,
            writable=False,
            problem=str(error),
            is_reachable=False,
        )
    except ConfigError as error:  # a wrong word can be replaced by a right one
        return Flag(
            wanted=None,
            place=source.place,
            writable=_is_writable(source),
            problem=str(error),
        )
    if wanted is None:
        return Flag(wanted=None, place=source.place, writable=writable)
    return Flag(
        wanted=wanted.phase,
        place=wanted.place,
        version=wanted.version,
        writable=writable,
    )


def read_flag_of(pair: PairValues, source: FlagSource) -> Flag:
    """Read it, compared with what the pair has followed, where that can be asked."""
    flag = read_flag(source)
    if flag.problem is not None:
        return flag
    try:
        source.remembering(pair).read()
    except ConfigError as error:
        return replace(flag, wanted=None, version=0, problem=str(error))
    except PendStorageError:
        return flag
    return flag


def _is_writable(source: FlagSource) -> bool:
    try:
        return source.writable
    except (ConfigError, StoreUnavailable):
        return False


def require_changeable(settings: Settings, flag: Flag, phase: Phase) -> None:
    """See that running servers will not undo what is about to be done.

    Raises:
        ConfigError: they follow a flag that cannot be changed from here.
        StoreUnavailable: they follow a flag that cannot be reached.
    """
    if not settings.auto_switch or flag.wanted is phase or flag.writable:
        return
    if not flag.is_reachable:
        raise StoreUnavailable(
            f"the running servers follow the flag by themselves (auto_switch), and it "
            f"cannot be changed now: {flag.problem}",
            store=flag.place,
        )
    raise ConfigError(
        f"{flag.place} cannot be changed from here, and the running servers follow it by "
        f"themselves (auto_switch). Set it to {phase.value!r} where it comes from and "
        "restart the servers: they make the switch. Or remove it there, so that the flag "
        "can be kept in Redis or in the file."
    )


def change_flag(
    pair: PairValues, source: FlagSource, flag: Flag, phase: Phase, *, by: str
) -> FlagChange:
    """Want this phase from now on, where that can be written.

    The pair remembers the version that it follows, so that no older one moves it later.

    Args:
        pair: what is moved.
        source: where the flag may be, compared with what the pair remembers.
        flag: what was read there.
        phase: the wanted one.
        by: who wants it, for the record.

    Raises:
        ConfigError: it cannot be written after all.
        StoreUnavailable: its place cannot be reached any more.
    """
    before = flag.wanted
    if before is phase:
        _note(pair, source, phase)
    if before is phase or not flag.writable:
        return FlagChange(
            place=flag.place,
            before=before,
            after=before,
            written=False,
            note="" if before is phase else _by_hand(flag, phase),
        )
    written = source.write(phase, by=by)
    return FlagChange(place=written.place, before=before, after=phase, written=True)


def _note(pair: PairValues, source: FlagSource, phase: Phase) -> None:
    wanted = source.read()
    if wanted is not None and wanted.phase is phase:
        FlagMemory(pair).note(wanted)


def _by_hand(flag: Flag, phase: Phase) -> str:
    if flag.problem is not None:
        return f"the flag was not changed: {flag.problem}"
    if flag.wanted is None:
        return f"the flag is set nowhere, and cannot be written: {flag.place}"
    return (
        f"{flag.place} still says {flag.wanted.value}, and cannot be changed from here: "
        f"set it to {phase.value} where it comes from"
    )
