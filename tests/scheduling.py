"""Order of a run: scopes of tests that take long are started before the others.

A scope is what one worker runs in one go: the functions of a module, a class, or a page
of the documentation. xdist starts the scopes with the most tests first, which are the
quick ones, so that a few long scopes are left to run at the end while the other workers
have nothing to do. ``slow_scopes.json`` beside this file has the seconds of each scope
that took longer than :data:`SLOW`. Write it anew from the report of a run, after tests
have become slower or quicker, by::

    .venv/bin/pytest --junitxml=report.xml
    .venv/bin/python -m tests.scheduling report.xml
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest
from typing_extensions import override
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

__all__ = ["SLOW_SCOPES_FILE", "SlowestFirst", "slow_scopes"]

SLOW_SCOPES_FILE: Final = Path(__file__).with_name("slow_scopes.json")
SLOW: Final = 3.0
"""Seconds."""
_PER_TEST: Final = 0.05
"""Seconds that a test of any other scope is taken to last."""


class SlowestFirst(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Scheduler of ``--dist=loadscope`` that starts the slowest scopes first.

    Args:
        config: as of every scheduler of xdist.
        log: the same.
        slow: seconds by scope.
    """

    def __init__(
        self, config: pytest.Config, log: Producer | None, slow: Mapping[str, float]
    ) -> None:
        super().__init__(config, log)
        self._slow = slow

    @override
    def _assign_work_unit(self, node: WorkerController) -> None:
        slowest = max(self.workqueue, key=self._seconds)
        self.workqueue.move_to_end(slowest, last=False)
        super()._assign_work_unit(node)

    def _seconds(self, scope: str) -> float:
        return self._slow.get(scope, _PER_TEST * len(self.workqueue[scope]))


def slow_scopes(report: Path) -> dict[str, float]:
    """Return the seconds of each slow scope by the JUnit report of a run."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own
        seconds[_scope_of(case.attrib)] += float(case.get("time", "0"))
    return {
        scope: round(taken, 1)
        for scope, taken in sorted(seconds.items())
        if taken > SLOW
    }


def _scope_of(case: Mapping[str, str]) -> str:
    """Return the scope of a test by its module or page, with its classes behind it."""
    parts = case["classname"].split(".")
    if parts[-1] == "md":
        return f"{'/'.join(parts[:-1])}.md"
    for end in range(len(parts), 0, -1):
        path = Path(*parts[:end]).with_suffix(".py")
        if path.exists():
            return "::".join((path.as_posix(), *parts[end:]))
    return case["classname"]


def main() -> None:
    """Write the table of slow scopes by the report that the command line names."""
    table = json.dumps(slow_scopes(Path(sys.argv[1])), indent=1)
    SLOW_SCOPES_FILE.write_text(f"{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
