"""``pend-storage relay``."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._output import seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.factory import ConfiguredPair

__all__ = ["relay"]

_REPORT_INTERVAL = 10.0
"""Seconds between two notes about the lag."""


@click.command(short_help="Bring the secondary up to date, until it is ended.")
@pass_session
def relay(session: Session) -> Exit:
    """Apply the primary's change log to the secondary, until SIGTERM or SIGINT.

    Each server does so by itself. A process of its own is of use where servers come and
    go, or while none is running. It follows every change of phase.
    """
    from pend_storage.cli._status import ended_by_signals
    from pend_storage.factory import open_pair

    out = session.output
    started = time.monotonic()
    with ended_by_signals() as ended, open_pair(session.settings_to_change) as pair:
        interval = session.settings.dual_write.relay_interval
        worker = threading.Thread(
            target=lambda: pair.relay(interval=interval), name="pend-relay", daemon=True
        )
        worker.start()
        out.note("relay: at work; end it with SIGTERM or Ctrl-C")
        reported = ""
        while not ended.wait(0.0 if not reported else _REPORT_INTERVAL):
            now = _state(pair)
            if now["text"] != reported:
                reported = str(now["text"])
                out.note(f"relay: {reported}")
        last = _state(pair)
        pair.close()  # ends pair.relay() in the thread
        worker.join(_REPORT_INTERVAL)
    took = time.monotonic() - started
    out.line(f"ended after {seconds(took)}: {last['text']}", style="ok")
    return session.finish(
        Exit.DONE, {"phase": last["phase"], "lag": last["lag"], "seconds": took}
    )


def _state(pair: ConfiguredPair) -> dict[str, Any]:
    from pend_storage.errors import PendStorageError

    try:
        phase, lag = pair.phase, pair.lag()
    except PendStorageError as error:
        return {"phase": None, "lag": None, "text": str(error)}
    state = "" if lag.secondary_up else ", the secondary is out of reach"
    text = f"phase {phase.value}, {lag.commits:,} commits behind{state}"
    if lag.blocked is not None:
        text += f": {lag.blocked}"
    return {"phase": phase, "lag": lag, "text": text}
