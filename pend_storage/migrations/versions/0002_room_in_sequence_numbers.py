"""Sequence numbers with room for many commits in each transaction.

The functions of the former revision wrote the bare transaction id; the present ones write
far larger numbers, so the change log continues above its last entry. A call of an old
function that began before this revision, and waits for the store's lock, must not continue
with a small number after it: readers of the log would have passed it already. The meta
entry that the old function adds to its number is made unreadable, so that the call fails,
and changes nothing.
"""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

OLD_COMMIT = "pend_commit(bigint,text[],text[],bigint[],text[],text[],json[])"
STORE_LOCK = 0x70656E64_73746F72
TOLD = "the database has been migrated: update this program"


def upgrade() -> None:
    connection = op.get_bind()
    old = connection.scalar(text(f"select to_regprocedure('{OLD_COMMIT}')::text"))
    if old is None:
        return
    # Before any table is locked: commits lock in this order, so no deadlock can arise.
    connection.execute(text(f"select pg_advisory_xact_lock({STORE_LOCK})"))
    connection.execute(
        text(
            "insert into store_meta (name, value) select 'postgres.offset', value "
            "from store_meta where name = 'postgres.base'"
        )
    )
    connection.execute(
        text(
            "insert into store_meta (name, value) "
            "values ('postgres.base', to_jsonb(cast(:told as text))) "
            "on conflict (name) do update set value = excluded.value"
        ),
        {"told": TOLD},
    )
    connection.execute(text(f"drop function {OLD_COMMIT}"))
