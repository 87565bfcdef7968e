"""Recovery of a live environment: what the archive costs writers, and how long the rest takes.

    python -m benchmarks.recovery_live [--rows 200000] [--rounds 7]

An environment in the phase ``postgres-only``, with a repository in a folder. The cost of
the archive is a ratio of commits in slices with and without ``backup archive --follow`` in
a process of its own, one after the other. The rest are seconds of one run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pend_storage as ps
from benchmarks.recovery import _event, _user
from pend_storage._model.snapshots import StoredRow
from pend_storage.backup._catalog import Catalog
from pend_storage.config import Settings, load_settings
from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.drill import drill
from pend_storage.operations.backup.opening import open_repository
from pend_storage.operations.backup.undo import undo
from pend_storage.operations.backup.verify import verify_backups
from pend_storage.pend import SCHEMA, User
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.servers import temporary_postgres

__all__ = ["main"]

_WRITERS: Final = 4
_SLICE: Final = 2.0
"""Seconds of commits in a slice."""
_DEPTHS: Final = (1, 1_000, 20_000)
"""Entries of the log between a change and the one that is undone."""
_CONFIG: Final = """
[environments.development]
phase = "postgres-only"
schema = "pend_storage.pend"
[environments.development.postgres]
url = "{url}"
[environments.development.backup]
repository = "repository"
"""


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with (
        TemporaryDirectory(prefix="recovery-") as directory,
        temporary_postgres() as server,
    ):
        root = Path(directory)
        (root / "pend.toml").write_text(_CONFIG.format(url=server.url))
        settings = load_settings(root / "pend.toml")
        with PostgresStore(SCHEMA, server.url) as store:
            store.migrate()
            store.load_snapshot(_rows(options.rows))
        for line in (
            *_backup(settings),
            *_archive(root, options.rounds),
            _cut(root),
            *_undo(root, settings),
            _drill(settings),
        ):
            print(line, flush=True)
    return 0


def _rows(count: int) -> Iterator[tuple[str, StoredRow]]:
    users = max(1, count // 5)
    for number in range(users):
        user = _user(number)
        yield (
            "users",
            StoredRow(user.id, number + 1, SCHEMA["users"].codec.encode(user)),
        )
    encode = SCHEMA["blockchain_events"].codec.encode
    for number in range(count):
        event = _event(number, users)
        yield "blockchain_events", StoredRow(event.id, count + number, encode(event))


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _backup(settings: Settings) -> Iterator[str]:
    seconds, created = _timed(lambda: create_backup(settings))
    parts = created.manifest.parts
    stored = sum(part.size for part in parts) / 1e6
    content = sum(part.content_size for part in parts) / 1e6
    yield f"create, read back: {seconds:.1f} s, {stored:.0f} MB of {content:.0f} MB"
    for deep in (False, True):
        seconds, found = _timed(partial(verify_backups, settings, deep=deep))
        assert not found.damaged
        name = "verify --deep" if deep else "verify"
        aim = "" if deep else ", aim at least 500"
        yield f"{name}: {seconds:.2f} s, {content / seconds:.0f} MB of content/s{aim}"


def _archive(root: Path, rounds: int) -> Iterator[str]:
    ratios = []
    with ps.open_store(root / "pend.toml") as store:
        _commits(store, nullcontext())  # connections and plans
        for _ in range(rounds):
            without = _commits(store, nullcontext())
            ratios.append(_commits(store, _following(root)) / without)
    ratios.sort()
    yield (
        f"commits of {_WRITERS} threads with the archive that follows: "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) of those "
        "without, aim at least 0.90"
    )


@contextmanager
def _following(root: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "pend_storage", "backup", "archive", "--follow"]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(2)  # it starts, and archives what is there
        try:
            yield
        finally:
            process.terminate()


def _commits(store: ps.Store, beside: Any) -> float:
    """Commits per second of a slice."""
    counts = [0] * _WRITERS
    ended = threading.Event()
    users = store.collection(User)

    def write(place: int) -> None:
        user = _user(place)
        while not ended.is_set():
            counts[place] += 1
            users.put(replace(user, metadata={"n": counts[place]}))

    with beside:
        threads = [threading.Thread(target=write, args=(n,)) for n in range(_WRITERS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        time.sleep(_SLICE)
        ended.set()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)


def _cut(root: Path) -> str:
    """Latency of commits while snapshots begin, against that without."""
    found = []
    with ps.open_store(root / "pend.toml") as store:
        for snapshots in (False, True):
            ended, waits = threading.Event(), []
            users, user = store.collection(User), _user(0)

            def begin(ended: threading.Event = ended) -> None:
                while not ended.wait(0.02):
                    with store.snapshot():
                        pass

            thread = threading.Thread(target=begin)
            if snapshots:
                thread.start()
            until = time.monotonic() + 2 * _SLICE
            while time.monotonic() < until:
                seconds, _ = _timed(partial(users.put, user))
                waits.append(seconds * 1000)
            ended.set()
            if snapshots:
                thread.join()
            found.append(statistics.quantiles(waits, n=100)[98])
    return (
        f"p99 of a commit: {found[0]:.1f} ms; while snapshots begin, about 40 a second: "
        f"{found[1]:.1f} ms, aim: a pause of at most 20"
    )


def _undo(root: Path, settings: Settings) -> Iterator[str]:
    with ps.open_store(root / "pend.toml") as store:
        users, other = store.collection(User), store.collection(User)
        for depth in _DEPTHS:
            user = _user(100 + depth)
            users.put(replace(user, tier=1))
            for start in range(0, depth, 1_000):
                for number in range(min(1_000, depth - start)):
                    other.put(_user(10 + number % 50))
            users.put(replace(user, tier=2))
            seconds, found = _timed(
                partial(undo, settings, "users", user.id, dry_run=True)
            )
            assert found.undo.earlier.record.tier == 1
            yield f"undo of a change {depth:,} entries back: {seconds * 1000:.0f} ms"
    archive_once(settings)


def _drill(settings: Settings) -> str:
    seconds, found = _timed(lambda: drill(settings, to="latest"))
    assert found.outcome == "ok", found
    count = len(Catalog(open_repository(settings)).segments())
    return f"drill: {seconds:.1f} s with {count} segments"


if __name__ == "__main__":
    raise SystemExit(main())
