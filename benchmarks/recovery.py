"""Recovery of a PostgreSQL store against the server's own tools, on the same rows.

    python -m benchmarks.recovery [--rows 200000] [--rounds 3]

Each round runs both sides one after the other, so the ratio of a round is of one moment.
Printed are the medians of the seconds, and of the ratios with the lowest and highest one.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import zstandard

from benchmarks.workbench import Plan, Workbench
from pend_storage._model.records import ChangedRecord
from pend_storage._model.snapshots import StoredChange, StoredRecord, StoredRow
from pend_storage.pend import SCHEMA, BlockchainEvent, Investment, User
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.servers import temporary_postgres

__all__ = ["main"]

_START: Final = datetime(2025, 1, 1, tzinfo=UTC)
_PAGE: Final = 200
"""Records that a relay applies at once."""
_SHARE: Final = 10
"""Part of the log that is applied record by record: the rest would take minutes."""
_AIMS: Final = {"snapshot": 4.0, "load": 1.2, "replay": 1.0}
Rows = Iterator[tuple[str, StoredRow]]


@dataclass(slots=True)
class _Comparison:
    name: str
    ours: str
    base: str
    seconds: list[float] = field(default_factory=list)
    base_seconds: list[float] = field(default_factory=list)

    def report(self, rows: int) -> str:
        """One line of the result."""
        pairs = zip(self.seconds, self.base_seconds, strict=True)
        ratios = sorted(mine / theirs for mine, theirs in pairs)
        mine, theirs = map(statistics.median, (self.seconds, self.base_seconds))
        return (
            f"{self.name}: {self.ours} {mine:.2f} s ({rows / mine:,.0f}/s), {self.base} "
            f"{theirs:.2f} s; ratio {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), aim at most {_AIMS[self.name]:g}"
        )


def main() -> int:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        TemporaryDirectory(prefix="recovery-") as directory,
        temporary_postgres() as server,
    ):
        bench = Workbench(Plan(), Path(directory), server.url)
        compared = [
            _Comparison("snapshot", "rows, canonical, zstd 1", "pg_dump -Fc -Z1"),
            _Comparison("load", "load_snapshot", "pg_restore"),
            _Comparison("replay", "load_changes", "apply by pages of 200"),
        ]
        with bench.database() as url, PostgresStore(SCHEMA, url) as store:
            store.migrate()
            store.load_snapshot(_rows(options.rows))
            for _ in range(options.rounds):
                _round(bench, store, url, options.rows, compared)
        for comparison in compared:
            print(comparison.report(options.rows))
        print(_pause(bench))
    return 0


def _round(
    bench: Workbench,
    store: PostgresStore,
    url: str,
    rows: int,
    compared: list[_Comparison],
) -> None:
    """Run both sides of every comparison once."""
    snapshot, load, replay = compared
    mine, dump = bench.root / "mine.zst", bench.root / "dump"
    snapshot.seconds.append(_timed(lambda: _write(store, mine)))
    snapshot.base_seconds.append(
        _timed(lambda: _tool("pg_dump", "-Fc", "-Z1", "-f", str(dump), url))
    )
    with bench.database() as empty, PostgresStore(SCHEMA, empty) as target:
        target.migrate()
        load.seconds.append(_timed(lambda: target.load_snapshot(_read(mine))))
        keys = max(1, rows // 4)
        log = list(_log(rows, keys, above=target.head()))
        replay.seconds.append(_timed(lambda: target.load_changes(log)))
    with bench.database() as empty:
        load.base_seconds.append(
            _timed(lambda: _tool("pg_restore", "-d", empty, str(dump)))
        )
        with PostgresStore(SCHEMA, empty) as target:
            seconds = _timed(lambda: _apply(target, log[::_SHARE]))
            replay.base_seconds.append(seconds * _SHARE)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _tool(*command: str) -> None:
    subprocess.run(command, check=True)


@contextmanager
def _compressed(path: Path) -> Iterator[Any]:
    with path.open("wb") as raw, zstandard.ZstdCompressor(1).stream_writer(raw) as out:
        yield out


def _write(store: PostgresStore, path: Path) -> None:
    encode = msgspec.json.encode
    with store.snapshot() as snapshot, _compressed(path) as out:
        for spec in SCHEMA:
            lines: list[bytes] = []
            for key, version, body in snapshot.rows(spec.name):
                text = None if body is None else msgspec.Raw(body)
                lines.append(encode((spec.name, key, version, text)))
                if len(lines) == 1_000:
                    out.write(b"\n".join(lines) + b"\n")
                    lines.clear()
            out.write(b"\n".join([*lines, b""]))


def _read(path: Path) -> Rows:
    decode = msgspec.json.Decoder(tuple[str, str, int, msgspec.Raw]).decode
    rest = b""
    for chunk in zstandard.ZstdDecompressor().read_to_iter(path.read_bytes()):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            name, key, version, body = decode(line)
            yield name, StoredRow(key, version, bytes(body))


def _rows(count: int) -> Rows:
    """A quarter of users, almost half of events, and investments."""
    users = max(1, count // 4)
    events = count * 45 // 100
    version = 0
    for name, most, make in (
        ("users", users, _user),
        ("blockchain_events", events, lambda n: _event(n, users)),
        ("investments", count - users - events, lambda n: _investment(n, users)),
    ):
        encode = SCHEMA[name].codec.encode
        for number in range(most):
            version += 1
            record = make(number)
            yield name, StoredRow(record.id, version, encode(record))


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _user(number: int, revision: int = 0) -> User:
    digest = _digest("user", number)
    return User(
        id=_uuid("user", number),
        phone_hash="0x" + digest,
        blockchain_address="0x" + digest[:40],
        tier=number % 4,
        created_at=_START + timedelta(seconds=number),
        updated_at=_START + timedelta(seconds=number, microseconds=revision),
        metadata={"source": "ussd", "tag": digest[:6], "revision": revision},
    )


def _uuid(*parts: object) -> str:
    text = _digest(*parts)
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:32]))


def _event(number: int, users: int) -> BlockchainEvent:
    owner = _user(number % users)
    return BlockchainEvent(
        id=_uuid("event", number),
        event_type="transfer",
        timestamp=_START + timedelta(seconds=number),
        from_address=owner.blockchain_address,
        transaction_hash="0x" + _digest("transaction", number),
        block_number=number // 3,
        log_index=number % 3,
        amount=Decimal(number).scaleb(-4),
        decoded_data={"memo": f"transfer {number}", "fee": number % 7},
        user_id=owner.id,
    )


def _investment(number: int, users: int) -> Investment:
    return Investment(
        id=_uuid("investment", number),
        user_id=_user(number % users).id,
        amount=Decimal(number).scaleb(-2),
        invested_at=_START + timedelta(seconds=number),
        transaction_hash="0x" + _digest("investment", number),
        metadata={"channel": "web"},
    )


def _log(entries: int, keys: int, *, above: int) -> Iterator[StoredChange]:
    encode = SCHEMA["users"].codec.encode
    for number in range(entries):
        record = _user(number % keys, 1 + number // keys)
        sequence = above + 1 + number
        yield StoredChange(
            sequence=sequence,
            epoch=0,
            at=_START,
            records=(StoredRecord("users", record.id, sequence, encode(record)),),
        )


def _apply(store: PostgresStore, log: list[StoredChange]) -> None:
    codec = SCHEMA["users"].codec
    for start in range(0, len(log), _PAGE):
        store.apply(
            [
                ChangedRecord(
                    r.collection, r.key, r.version, codec.decode(r.body or b"")
                )
                for change in log[start : start + _PAGE]
                for r in change.records
            ]
        )


def _pause(bench: Workbench) -> str:
    """How long commits wait for the beginning of a snapshot."""
    with bench.database() as url, PostgresStore(SCHEMA, url) as store:
        store.migrate()
        users, waits = store.collection(User), []
        for number in range(100):
            users.put(_user(number))
        for _ in range(50):
            start = time.perf_counter()
            with store.snapshot():
                waits.append(time.perf_counter() - start)
            users.put(replace(_user(1), tier=2))
    return f"begin of a snapshot, connection included: median {statistics.median(waits) * 1000:.1f} ms"


if __name__ == "__main__":
    raise SystemExit(main())
