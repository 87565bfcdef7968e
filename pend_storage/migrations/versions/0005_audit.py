"""The audit: commits of audited collections have entries, which a program of before lacks.

The table is declared, and comes with the tables of the collections. This revision keeps
programs of before away: they would commit without entries, and their migration would take
the table for that of another schema.
"""

from pend_storage.errors import SchemaOutOfDate

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Change nothing: the number counts."""


def downgrade() -> None:
    message = (
        "revision 0005 of the database cannot be taken back: programs of before would "
        "write without audit entries. Restore a backup from before the migration, or go "
        "on with this version."
    )
    raise SchemaOutOfDate(message)
