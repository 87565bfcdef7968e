"""A standby of an embedded server, which may be promoted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from pend_storage.testing.servers import EmbeddedPostgres
from pend_storage.testing.servers._places import server_account, temporary_home

from .activity import run

__all__ = ["either", "promote", "standby_of"]


@contextmanager
def standby_of(primary: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A running hot standby in a directory of its own."""
    account = server_account()
    home = temporary_home(account)
    data = home / "data"
    data.mkdir(mode=0o700)
    who: dict[str, object] = {}
    if account is not None:
        os.chown(data, account.user, account.group)
        who = {"user": account.user, "group": account.group, "extra_groups": []}
    subprocess.run(
        [
            str(primary.bindir / "pg_basebackup"),
            *("-d", primary.url, "-D", str(data), "-R", "-c", "fast"),
        ],
        check=True,
        capture_output=True,
        cwd="/",
        **who,  # type: ignore[call-overload]
    )
    standby = EmbeddedPostgres(
        home, settings=primary.settings, bindir=primary.bindir, temporary=True
    )
    with standby:
        yield standby


def promote(standby: EmbeddedPostgres) -> None:
    """Make a standby a primary of its own, on a new timeline."""
    run(standby.url, "select pg_promote(true, 30)")


def either(*servers: EmbeddedPostgres) -> str:
    """One URL for several servers: whichever takes writes."""
    hosts = ",".join(quote(str(server.sockets)) for server in servers)
    ports = ",".join("5432" for _ in servers)
    return (
        f"postgresql://postgres@/postgres?host={hosts}&port={ports}"
        "&target_session_attrs=read-write"
    )
