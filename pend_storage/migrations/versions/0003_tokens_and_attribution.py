"""Tokens and attribution of commits; sequences are compared with the end of the log.

The functions of the former revision would write commits without a token, and with a
sequence that was not compared with the end of the log. They are dropped, so that a program
of the former version is refused. A call of an old function that began before this revision,
and waits for a lock, must not continue after it: the meta entry that it adds to its number
is made unreadable, so that the call fails, and changes nothing.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy import text

from pend_storage.errors import SchemaOutOfDate
from pend_storage.stores.postgres._connection.own_names import OWN, OWN_SCHEMA

revision = "0003"
down_revision = "0002"

TOLD = "the database has been migrated: update this program"
OLD_FUNCTIONS = f"""
select p.oid::regprocedure::text from pg_proc as p
 where p.pronamespace = to_regnamespace('{OWN_SCHEMA}')
   and pg_has_role(p.proowner, 'usage')
   and (p.proname in ('pend_guard', 'pend_kept', 'pend_horizon', 'pend_commit',
                      'pend_apply', 'pend_apply_enter')
        or p.proname like 'pend\\_put\\_%'
           and oidvectortypes(p.proargtypes) = 'bigint, text, json, bigint')
"""


def upgrade() -> None:
    connection = op.get_bind()
    old = connection.scalars(text(OLD_FUNCTIONS)).all()
    if old:
        # A call that has read the entry keeps its table until it ends.
        connection.execute(text(f"lock table {OWN}store_meta in access exclusive mode"))
        _drop_old_functions(connection, old)
    namespace = context.config.attributes["namespace"]
    for column in (
        sa.Column("token", sa.Uuid),
        sa.Column("by", sa.Text),
        sa.Column("reason", sa.Text),
    ):
        op.add_column("changes", column, schema=namespace)
    op.create_unique_constraint(
        "changes_token_key", "changes", ["token"], schema=namespace
    )


def _drop_old_functions(connection: sa.Connection, old: Sequence[str]) -> None:
    connection.execute(
        text(
            f"insert into {OWN}store_meta (name, value) select 'postgres.numbers', value "
            f"from {OWN}store_meta where name = 'postgres.offset'"
        )
    )
    connection.execute(
        text(
            f"insert into {OWN}store_meta (name, value) "
            "values ('postgres.offset', to_jsonb(cast(:told as text))) "
            "on conflict (name) do update set value = excluded.value"
        ),
        {"told": TOLD},
    )
    for signature in old:
        connection.execute(text(f"drop function {signature}"))


def downgrade() -> None:
    message = (
        "revision 0003 of the database cannot be taken back: the change log has tokens "
        "that programs of before do not know. Restore a backup from before the migration, "
        "or go on with this version."
    )
    raise SchemaOutOfDate(message)
