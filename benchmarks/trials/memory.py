"""Memory of a server."""

from __future__ import annotations

from typing import Final

from benchmarks.trial import Trial

__all__ = ["TRIALS"]

TRIALS: Final = (
    Trial(
        name="memory",
        title="Resident memory",
        text=(
            "A process of its own tells how much more memory it has than before: with a "
            "JSON directory of 100,000 records open, every one of them read and one "
            "written; and with 1,000 clients of an AsyncStore over PostgresStore, each "
            "an asyncio task, before their first call and after they have been at work."
        ),
        run="memory:run",
    ),
)
