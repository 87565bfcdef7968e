"""Shared fixtures: Hypothesis profiles, and the servers of the run."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from pend_storage.testing.fixtures import (
    databases,
    new_database,
    new_migrated_database,
    postgres_server,
    postgres_url,
    redis_server,
    redis_url,
    warm_up,
)

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.scheduling import SlowestFirst

__all__ = [
    "databases",
    "new_database",
    "new_migrated_database",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "redis_url",
]

settings.register_profile(
    "dev",
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "ci",
    settings.get_profile("dev"),
    max_examples=100,
    stateful_step_count=50,
    derandomize=True,
    print_blob=True,
)
settings.register_profile(
    "deep", settings.get_profile("dev"), max_examples=2000, stateful_step_count=100
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes directories of its own there
ROOM = 4 * 2**30
"""Bytes that a run may need there."""

if (
    "TMPDIR" not in os.environ
    and settings.get_current_profile_name() != "deep"
    and MEMORY.is_dir()
    and shutil.disk_usage(MEMORY).free > ROOM
):
    # Most of the time of a run is else the disk's, which syncs each commit. What a disk
    # may lose is tested with recorded writes; processes that die lose nothing in memory
    # either. Long runs use the disk.
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background has them ignore it, and so would every
    # child process that a test wants to interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Producer
) -> SlowestFirst | None:
    """Have xdist start the scopes that take long before the others."""
    from tests.scheduling import SLOW_SCOPES_FILE, SlowestFirst

    if config.getvalue("dist") != "loadscope":
        return None
    return SlowestFirst(config, log, json.loads(SLOW_SCOPES_FILE.read_text()))


def pytest_report_header() -> str:
    """Tell which settings hold."""
    return (
        f"hypothesis profile: {settings.get_current_profile_name()}; "
        f"PostgreSQL: {os.environ.get('PEND_TEST_DSN') or 'embedded'}; "
        f"Redis: {os.environ.get('PEND_TEST_REDIS_URL') or 'embedded'}; "
        f"files below {tempfile.gettempdir()}"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the servers that the collected tests need, or end the run."""
    gc.collect()
    gc.freeze()  # thousands of collected tests are not looked through again and again
    # What is young is looked through as often as anywhere, the whole heap a tenth as often:
    # with the modules of all tests that costs a sixth of the processor's time.
    gc.set_threshold(*gc.get_threshold()[:2], 100)
    if session.config.option.collectonly:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for name, version in warm_up(session).items():
        if reporter is not None:
            reporter.write_line(f"{name} {version} answers")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what the runs on hostile addresses have counted, all of them together."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                counts.update(dict(report.user_properties).get("hostile", {}))
    if counts:
        told = ", ".join(f"{name}: {number}" for name, number in sorted(counts.items()))
        terminalreporter.write_line(f"hostile addresses: {told}")
