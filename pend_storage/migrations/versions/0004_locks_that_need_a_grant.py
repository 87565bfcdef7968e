"""The store lock is one on a table, and names are looked up in one schema only.

The functions of the former revision share an advisory lock, which the present ones do not
take: a commit of one kind would not exclude a change of role by the other. So they are
dropped, and a program of the former version is refused. A call of an old function that
began before this revision must not continue after it: the meta entry that it adds to its
number is made unreadable, so that the call fails, and changes nothing.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy import text

from pend_storage.errors import SchemaOutOfDate
from pend_storage.stores.postgres._connection.own_names import OWN, OWN_SCHEMA

revision = "0004"
down_revision = "0003"

TOLD = "the database has been migrated: update this program"
OLD_FUNCTIONS = f"""
select p.oid::regprocedure::text from pg_proc as p
 where p.pronamespace = to_regnamespace('{OWN_SCHEMA}')
   and pg_has_role(p.proowner, 'usage')
   and (p.proname in ('pend_guard', 'pend_kept', 'pend_changes', 'pend_found',
                      'pend_whole', 'pend_horizon', 'pend_renumber', 'pend_commit',
                      'pend_apply', 'pend_apply_enter')
        or p.proname like 'pend\\_put\\_%'
           and oidvectortypes(p.proargtypes)
               = 'bigint, text, json, bigint, uuid, text, text, boolean, text')
"""


def upgrade() -> None:
    connection = op.get_bind()
    old = connection.scalars(text(OLD_FUNCTIONS)).all()
    if old:
        # A call that has read the entry keeps its table until it ends.
        connection.execute(text(f"lock table {OWN}store_meta in access exclusive mode"))
    connection.execute(
        text(
            f"insert into {OWN}store_meta (name, value) "
            f"select 'postgres.numbering', m.value from {OWN}store_meta as m "
            "where m.name = 'postgres.numbers' and jsonb_typeof(m.value) = 'number'"
        )
    )
    if old:
        _drop_old_functions(connection, old)
    op.create_table(
        "pend_store_lock",
        sa.Column("never", sa.Boolean),
        sa.CheckConstraint("false", name="pend_store_lock_is_empty"),
        schema=context.config.attributes["namespace"],
    )


def _drop_old_functions(connection: sa.Connection, old: Sequence[str]) -> None:
    connection.execute(
        text(
            f"insert into {OWN}store_meta (name, value) "
            "values ('postgres.numbers', to_jsonb(cast(:told as text))) "
            "on conflict (name) do update set value = excluded.value"
        ),
        {"told": TOLD},
    )
    for signature in old:
        connection.execute(text(f"drop function {signature}"))


def downgrade() -> None:
    message = (
        "revision 0004 of the database cannot be taken back: programs of before take "
        "another lock than it has. Restore a backup from before the migration, or go on "
        "with this version."
    )
    raise SchemaOutOfDate(message)
