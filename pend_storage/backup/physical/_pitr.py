"""Recovery to a point in time: a side server replays the archived log up to a target.

That a server started proves nothing: where the target does not exist, it ends seconds
later. A recovery has succeeded when the server has left recovery, lives, says that it
stopped at the target, and writes a timeline of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pend_storage._shown import one_line
from pend_storage.backup.physical._server import connected
from pend_storage.backup.physical._side_server import SideServer
from pend_storage.backup.physical._targets import RecoveryTarget
from pend_storage.backup.physical._tools import last_words
from pend_storage.errors import ConfigError, StoreUnavailable

__all__ = ["Recovered", "recover"]

_STOPPING: Final = re.compile(r"recovery stopping[^\n]*")
_NOT_REACHED: Final = "recovery ended before configured recovery target was reached"
_CLEARED: Final = "archive recovery complete"
_REASON: Final = re.compile(r"(?:FATAL|PANIC):  [^\n]*")
_POLL: Final = 0.1
_STATE: Final = """
select pg_catalog.pg_is_in_recovery(),
       case when not pg_catalog.pg_is_in_recovery()
            then pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Server that reached its target."""

    timeline: int
    """That it writes now."""
    stopped: str
    """Its own words about the place where it stopped."""
    seconds: float
    """From the start to the end of the recovery."""


def recover(
    side: SideServer,
    target: RecoveryTarget,
    *,
    timeline: int,
    login: Mapping[str, Any],
    timeout: float,
    restore_command: str | None = None,
) -> Recovered:
    """Start a side server, let it replay the log up to a target, and check that it did.

    The server runs when this returns, and no longer has settings of a recovery. Where it
    fails, the server is stopped; its directory is left, with the log.

    Args:
        side: with its files, and the segments in its folder.
        target: where to stop.
        timeline: that the log is to be followed on; the server makes a new one.
        login: settings of libpq with user and database.
        timeout: seconds for the whole recovery.
        restore_command: for the server; None: from its folder of segments.

    Raises:
        ConfigError: the target was not reached: it is not in the archived log.
        StoreUnavailable: the server ended, or did not get there in time.
    """
    side.configure(
        [
            ("restore_command", restore_command or _restore_command(side)),
            ("recovery_target_timeline", str(timeline)),
            ("recovery_target_action", "promote"),
            *target.settings,
        ]
    )
    began = time.monotonic()
    side.start()
    try:
        new = _await_end(side, login, began + timeout)
        stopped = _require_reached(side, target, timeline, new)
        side.configure()
    except BaseException:
        side.stop()
        raise
    return Recovered(timeline=new, stopped=stopped, seconds=time.monotonic() - began)


def _require_reached(
    side: SideServer, target: RecoveryTarget, former: int, timeline: int
) -> str:
    """Require all that shows a recovery up to the target; return the server's words."""
    said = side.log_text()
    stopped = _STOPPING.search(said)
    if target.stops and stopped is None:
        raise _failure(side, target, "it does not say that it stopped there")
    if not target.stops and _CLEARED not in said:
        raise _failure(side, target, "it does not say that it replayed the log")
    if timeline <= former:
        raise _failure(side, target, f"it still writes timeline {timeline}")
    if not side.runs:
        raise _failure(side, target, "it ended right afterwards")
    return one_line(stopped[0] if stopped is not None else target.text)


def _restore_command(side: SideServer) -> str:
    folder = str(side.wal).replace("%", "%%").replace("'", "'\\''")
    return f"cp '{folder}/%f' '%p'"


def _await_end(side: SideServer, login: Mapping[str, Any], deadline: float) -> int:
    """Wait until the server has left recovery; return the timeline that it writes."""
    address = {**side.address(login), "connect_timeout": 5}
    while True:
        if not side.runs:
            raise _failure(side, None, "it ended")
        try:
            with connected(address) as connection:
                row = connection.execute(_STATE).fetchone()
        except StoreUnavailable as error:
            row = None
            reason = error.reason
        else:
            reason = "it is still in recovery"
        if row is not None and not row[0]:
            return int(str(row[1])[:8], 16)
        if time.monotonic() > deadline:
            raise _failure(side, None, f"it took too long: {reason}")
        time.sleep(_POLL)


def _failure(
    side: SideServer, target: RecoveryTarget | None, reason: str
) -> ConfigError | StoreUnavailable:
    said = side.log_text()
    if _NOT_REACHED in said:
        return ConfigError(
            f"the target is not in the archived log, which ends before it"
            f"{_last_time(said)}. Nothing was restored; choose an earlier target: `backup "
            "list` shows what can be restored."
        )
    fatal = _REASON.findall(said)
    words = one_line(fatal[-1], 300) if fatal else last_words(said)
    about = "" if target is None else f" at {target.text}"
    return StoreUnavailable(
        f"the recovery failed{about}: {reason}; its log, {side.directory / 'server.log'}, "
        f"says: {words}",
        store="restored server",
    )


def _last_time(said: str) -> str:
    found = re.search(r"last completed transaction was at log time ([^\n]+)", said)
    return "" if found is None else f": its last commit is of {one_line(found[1])}"
