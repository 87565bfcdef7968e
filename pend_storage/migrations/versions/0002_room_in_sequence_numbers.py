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

from pend_storage.stores.postgres._connection.own_names import OWN

revision = "0002"
down_revision = "0001"

OLD_COMMIT = f"{OWN}pend_commit(bigint,text[],text[],bigint[],text[],text[],json[])"
TOLD = "the database has been migrated: update this program"


def upgrade() -> None:
    connection = op.get_bind()
    old = connection.scalar(text(f"select to_regprocedure('{OLD_COMMIT}')::text"))
    if old is None:
        return
    # A call that has read the entry keeps its table until it ends.
    connection.execute(text(f"lock table {OWN}store_meta in access exclusive mode"))
    connection.execute(
        text(
            f"insert into {OWN}store_meta (name, value) select 'postgres.offset', value "
            f"from {OWN}store_meta where name = 'postgres.base'"
        )
    )
    connection.execute(
        text(
            f"insert into {OWN}store_meta (name, value) "
            "values ('postgres.base', to_jsonb(cast(:told as text))) "
            "on conflict (name) do update set value = excluded.value"
        ),
        {"told": TOLD},
    )
    connection.execute(text(f"drop function {OLD_COMMIT}"))
