"""PostgreSQL clusters for exchanges: created once, copied for each run."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from typing_extensions import override

from pend_storage.events import Hook
from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.hostile._address import POSTGRES, Address, Manner
from pend_storage.testing.hostile._ledger import Contents
from pend_storage.testing.hostile._servers import Exchange, Servers
from pend_storage.testing.servers import EmbeddedPostgres
from pend_storage.testing.servers._places import server_account, temporary_home

__all__ = ["PostgresServers", "Templates"]

_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # A killed server's writes stay with the operating system; only its crash loses
        # them.
        "fsync": "off",
        "shared_buffers": "8MB",
        "max_connections": "40",
        "min_wal_size": "2MB",
        "max_wal_size": "32MB",
        "wal_keep_size": "16MB",
    }
)
_USED_TRANSACTION_IDS: Final = 3_000
"""Transaction ids that the first cluster has used; a younger cluster has fewer."""
_SOCKET: Final = ".s.PGSQL.5432"
_TOOL_TIMEOUT: Final = 60.0
_POLL_INTERVAL: Final = 0.01


class _Cluster(EmbeddedPostgres):
    """Private cluster whose files are small, so that copies are quick."""

    def __init__(self, *, temporary: bool = True) -> None:
        home = temporary_home(server_account())
        super().__init__(home, settings=_SETTINGS, temporary=temporary)

    @override
    def _make_command(self, data: Path) -> list[str]:
        return [*super()._make_command(data), "--wal-segsize=1"]

    @property
    def socket(self) -> Path:
        """Path of its Unix socket."""
        return self.sockets / f".s.PGSQL.{self._port}"

    @property
    def data(self) -> Path:
        """Data directory; created if the cluster was never started."""
        path = self.home / "data"
        if not path.exists():
            path.mkdir(mode=0o700)
            if self.account is not None:
                shutil.chown(path, *self.account.ids)
        return path

    def fill(self, files: Path) -> None:
        """Copy the data directory of a stopped cluster."""
        subprocess.run(  # noqa: S603
            ["cp", "-a", f"{files}/.", str(self.data)],  # noqa: S607 - owners are kept
            check=True,
            timeout=_TOOL_TIMEOUT,
        )

    def tool(self, name: str, *arguments: object, feed: bytes | None = None) -> bytes:
        """Run a PostgreSQL program as the server's user; return its output."""
        user, group = (None, None) if self.account is None else self.account.ids
        done = subprocess.run(  # noqa: S603
            [str(self.bindir / name), *map(str, arguments)],
            cwd="/",
            input=feed,
            capture_output=True,
            check=False,
            timeout=_TOOL_TIMEOUT,
            user=user,
            group=group,
            extra_groups=None if self.account is None else [],
        )
        assert done.returncode == 0, f"{name}: {done.stderr.decode()[-500:]}"
        return done.stdout

    def sql(self, statement: str) -> object:
        """Run a statement in a connection of its own; return its first value."""
        import psycopg  # noqa: PLC0415 - needed only by tests of PostgreSQL

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]


class Templates:
    """Data directories of clusters, created once, copied for runs. Use ``with``."""

    def __init__(self, schema: Schema) -> None:
        """Prepare templates, created on first use.

        Args:
            schema: schema to which the databases are migrated.
        """
        self.schema = schema
        self._homes: dict[str, Path] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def used(self) -> Path:
        """Return a migrated database; its cluster has used many transaction ids."""
        return self._created("used", _USED_TRANSACTION_IDS, migrated=True)

    def fresh(self) -> Path:
        """Return a migrated database; its cluster has used few transaction ids."""
        return self._created("fresh", 0, migrated=True)

    def bare(self) -> Path:
        """Return an empty database to restore into; few transaction ids are used."""
        return self._created("bare", 0, migrated=False)

    def _created(self, name: str, used_ids: int, *, migrated: bool) -> Path:
        if name not in self._homes:
            self._homes[name] = self._make(used_ids, migrated=migrated)
        return self._homes[name]

    def _make(self, used_ids: int, *, migrated: bool) -> Path:
        cluster = _Cluster(temporary=False)
        self._stack.callback(shutil.rmtree, cluster.home, ignore_errors=True)
        with cluster:
            if used_ids:
                cluster.sql(
                    f"do $$ begin for i in 1..{used_ids} loop perform pg_current_xact_id(); "
                    "commit; end loop; end $$"
                )
            if migrated:
                with PostgresStore(self.schema, cluster.url) as store:
                    store.migrate()
        return cluster.directory / "data"


class PostgresServers(Servers):
    """Private PostgreSQL clusters; the first one is a copy of a template."""

    def __init__(self, templates: Templates) -> None:
        """Start the first cluster.

        Args:
            templates: shared by all runs of a session.
        """
        self._templates = templates
        self._stack = ExitStack()
        self._home = temporary_home(None)
        self._stack.callback(shutil.rmtree, self._home, ignore_errors=True)
        self._current = self._started(templates.used())
        self._former: _Cluster | None = None
        self._next: _Cluster | None = None
        self.address: Address = self._listen("1", self._current)
        self._second = self._listen("2", self._current)
        self._second.cut()

    def _listen(self, name: str, cluster: _Cluster) -> Address:
        (self._home / name).mkdir()
        path = self._home / name / _SOCKET
        return self._stack.enter_context(Address(path, cluster.socket, wire=POSTGRES))

    def _started(self, files: Path) -> _Cluster:
        cluster = _Cluster()
        cluster.fill(files)
        return self._stack.enter_context(cluster)

    @property
    def url(self) -> str:
        """URL of the database, with two hosts: libpq chooses the writable one."""
        hosts = f"{self._home}/1,{self._home}/2"
        return f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"

    @override
    def open(self, schema: Schema, *, pooled: bool, hook: Hook) -> Store:
        return PostgresStore(
            schema,
            self.url,
            pooler="transaction" if pooled else None,
            statement_timeout=10.0,
            hook=hook,
        )

    @override
    def peek(self) -> tuple[Role, Contents]:
        role = self._current.sql(
            "select value ->> 'role' from store_meta where name = 'role'"
        )
        texts = self._current.sql("select json_object_agg(id, text) from notes")
        contents = dict(texts) if isinstance(texts, dict) else {}
        return Role(role) if isinstance(role, str) else Role.DETACHED, contents

    @override
    def close(self) -> None:
        self._stack.close()

    # -- exchanges ----------------------------------------------------------------------

    @override
    def prepare(self, exchange: Exchange) -> None:
        match exchange:
            case Exchange.LAGGING_STANDBY:
                self._next = self._standby()
                self._promote(self._next)
            case Exchange.PUT_BACK:
                self._next = _Cluster()
                self._copy(self._next)
                self._stack.enter_context(self._next)
            case Exchange.OLDER_DUMP:
                self._next = self._started(self._templates.bare())
                self._restore(self._next)
            case Exchange.YOUNGER_CLUSTER:
                self._next = self._started(self._templates.bare())
            case Exchange.READ_ONLY:
                self._next = self._standby()
            case Exchange.RESTARTED:
                self._next = None

    @override
    def exchange(self, exchange: Exchange) -> None:
        former, following = self._current, self._next
        if following is None:
            former.restart()
            return
        if exchange is Exchange.YOUNGER_CLUSTER:
            self._restore(following)
        elif exchange is Exchange.READ_ONLY:
            # Nothing is lost by this exchange, so the standby must have everything.
            self._await_replay(following)
            self._promote(following)
            # The former primary stays up and refuses writes: a managed failover.
            former.sql("alter system set default_transaction_read_only = on")
            former.sql("select pg_reload_conf()")
            self._second.target = following.socket
            self._second.restore()
        if exchange is not Exchange.READ_ONLY:
            self.address.target = following.socket
        self._current, self._former, self._next = following, former, None

    @override
    def retire(self, exchange: Exchange) -> None:
        # Killed, not stopped: a lost primary does not shut down cleanly.
        if self._former is not None and exchange is not Exchange.READ_ONLY:
            self._former.kill()
        self._former = None

    @override
    def put_empty(self) -> None:
        former, self._current = self._current, self._started(self._templates.fresh())
        with self.address.exchanging(Manner.CUT):
            self._second.cut()
            self.address.target = self._current.socket
        former.kill()

    def _standby(self) -> _Cluster:
        """Start a standby of the present cluster."""
        standby = _Cluster()
        self._copy(standby, "-R")
        return self._stack.enter_context(standby)

    def _copy(self, to: _Cluster, *options: str) -> None:
        host = self._current.sockets
        login = ("-h", host, "-U", "postgres")
        # No sync and an immediate checkpoint: only the speed of the test matters.
        speed = ("-c", "fast", "-X", "fetch", "--no-sync")
        to.tool("pg_basebackup", *login, "-D", to.data, *speed, *options)

    @staticmethod
    def _promote(standby: _Cluster) -> None:
        assert standby.sql("select pg_promote()"), "the standby was not promoted"

    def _await_replay(self, standby: _Cluster) -> None:
        end = self._current.sql("select pg_current_wal_flush_lsn()::text")
        deadline = time.monotonic() + _TOOL_TIMEOUT
        reached = f"select pg_last_wal_replay_lsn() >= '{end}'::pg_lsn"
        while not standby.sql(reached):
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(_POLL_INTERVAL)

    def _restore(self, to: _Cluster) -> None:
        """Dump the present cluster, and restore it into another."""
        login = ("-U", "postgres", "-h")
        dump = to.tool("pg_dump", *login, self._current.sockets, "-Fc", "postgres")
        to.tool("pg_restore", *login, to.sockets, "-d", "postgres", feed=dump)
