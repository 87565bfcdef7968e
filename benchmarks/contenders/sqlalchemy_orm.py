"""SQLAlchemy ORM: a session for each call, as a request of a server has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.contenders.sqlalchemy_core import TABLE, engine
from benchmarks.measure import Slice, rate_of
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "puts"]

_COLUMNS = {c.name: "details" if c.name == "metadata" else c.name for c in TABLE.c}
"""The ORM keeps the name ``metadata`` for itself."""


class _Base(DeclarativeBase):
    """Base of the mapped class."""


class _Account(_Base):
    """A mapped account."""

    __table__ = TABLE  # type: ignore[mutable-override]  # as its documentation has it
    __mapper_args__ = {  # noqa: RUF012 - SQLAlchemy's own way
        "properties": {attribute: TABLE.c[name] for name, attribute in _COLUMNS.items()}
    }


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """``Session.get``."""
    keys = [account.id for account in shuffled(records)]
    with engine(bench, records) as source:

        def get(number: int) -> object:
            with Session(source) as session:
                return session.get(_Account, keys[number % len(keys)])

        yield rate_of(get, bench.plan.seconds)


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """``Session.merge`` and a commit: a select, an update and a commit."""
    rows = [asdict(account) for account in revisions(records)]
    for row in rows:
        row["details"] = row.pop("metadata")
    with engine(bench, records) as source:

        def put(number: int) -> None:
            with Session(source) as session:
                session.merge(_Account(**rows[number % len(rows)]))
                session.commit()

        yield rate_of(put, bench.plan.seconds)
